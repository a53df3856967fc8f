"""`python -m methods.semba`"""

from methods.semba.semba import main

main()
