"""`python -m methods.tensor_attention`"""

from methods.tensor_attention.tensor_attention import main

main()
