"""Hand-written pairs of a forward and a backward pass, for what autograd alone makes slow.

Every `name` here has a twin `plain_name` of the same arguments in ordinary torch. Read the twin: it says what is
computed, and autograd derives it. A test holds each pair to equal values and derivatives; where a second derivative
would be wrong, it is refused.
"""
