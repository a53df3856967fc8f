"""`python -m methods.pytorch_direct`"""

from methods.pytorch_direct.pytorch_direct import main

main()
