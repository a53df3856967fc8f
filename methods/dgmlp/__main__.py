"""`python -m methods.dgmlp`"""

from methods.dgmlp.dgmlp import main

main()
