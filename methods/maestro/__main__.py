"""`python -m methods.maestro`"""

from methods.maestro.maestro import main

main()
