"""`python -m methods.ddo`"""

from methods.ddo.ddo import main

main()
