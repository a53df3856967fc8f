"""`python -m methods.forward_gnn`"""

from methods.forward_gnn.forward_gnn import main

main()
