"""`python -m methods.pres`"""

from methods.pres.pres import main

main()
