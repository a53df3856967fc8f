"""`python -m methods.gnnpipe`"""

from methods.gnnpipe.gnnpipe import main

main()
