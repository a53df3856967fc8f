"""`python -m methods.dagnn`"""

from methods.dagnn.dagnn import main

main()
