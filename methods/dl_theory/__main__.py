"""`python -m methods.dl_theory`"""

from methods.dl_theory.criticality import main

main()
