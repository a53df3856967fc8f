"""`python -m methods.sheaf_recsys`"""

from methods.sheaf_recsys.sheaf_recsys import main

main()
