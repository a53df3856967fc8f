"""`python -m methods.adpa`"""

from methods.adpa.adpa import main

main()
