"""`python -m methods.dcdm`"""

from methods.dcdm.dcdm import main

main()
