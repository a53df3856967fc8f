"""The layers do what their equations say, and what torch's own modules do."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from methods.pres.layers import OneQueryAttention, TimeEncoder


def test_time_encoder_is_all_ones_at_gap_zero_and_has_the_frequencies_of_the_paper() -> None:
    encoder = TimeEncoder(5)
    assert torch.equal(encoder(torch.zeros(3)), torch.ones(3, 5))
    wanted = torch.tensor([1.0, 10**-2.25, 10**-4.5, 10**-6.75, 1e-9])
    torch.testing.assert_close(encoder.weight.data, wanted)
    torch.testing.assert_close(encoder(torch.tensor([7.0])), torch.cos(7 * wanted).unsqueeze(0))


def test_time_encoder_is_the_cosine_over_years_of_seconds() -> None:
    encoder, seconds = TimeEncoder(8), torch.tensor([0.5, 86_400.0, 3.2e7])
    exact = torch.cos(seconds.double().unsqueeze(1) * encoder.weight.double())
    unavoidable = seconds.unsqueeze(1) * encoder.weight * 2.0**-22  # what float32 loses of the phase itself
    assert bool(((encoder(seconds) - exact).abs() <= unavoidable + 1e-6).all())


def as_multihead(attention: OneQueryAttention, key_dim: int) -> nn.MultiheadAttention:
    dim = len(attention.out_bias)
    twin = nn.MultiheadAttention(dim, attention.heads, kdim=key_dim, vdim=key_dim, batch_first=True).double()
    query, value = (weight.transpose(0, 1).flatten(1).T for weight in (attention.query, attention.value))
    key = attention.key.flatten(0, 1)
    with torch.no_grad():
        twin.q_proj_weight.copy_(query[:, :-1])
        twin.k_proj_weight.copy_(key[:, :-1])
        twin.v_proj_weight.copy_(value[:, :-1])
        twin.in_proj_bias.copy_(torch.cat([query[:, -1], key[:, -1], value[:, -1]]))
        twin.out_proj.weight.copy_(attention.out.flatten(0, 1).T)
        twin.out_proj.bias.copy_(attention.out_bias)
    return twin.eval()


def with_one(key: Tensor) -> Tensor:
    return torch.cat([key, torch.ones_like(key[:, :1])], dim=1)


def random_attention() -> OneQueryAttention:
    torch.manual_seed(0)
    attention = OneQueryAttention(6, 5, heads=2, dropout=0.1).double().eval()
    for bias in (attention.query[:, -1], attention.key[..., -1], attention.value[:, -1], attention.out_bias):
        nn.init.normal_(bias)
    return attention


def test_attention_equals_multihead_attention_query_by_query_and_is_zero_without_keys() -> None:
    attention = random_attention()
    twin = as_multihead(attention, 5)
    query, key = torch.randn(4, 6).double(), torch.randn(6, 5).double()
    owner = torch.tensor([0, 0, 0, 2, 3, 3])  # query 1 has no key
    got = attention(query, with_one(key), owner)
    for i in (0, 2, 3):
        own = key[owner == i].unsqueeze(0)
        wanted, _ = twin(query[i].view(1, 1, 6), own, own)
        torch.testing.assert_close(got[i], wanted[0, 0])
    assert torch.equal(got[1], torch.zeros(6).double())


def test_attention_applies_the_shared_part_of_the_query_and_the_map_that_follows() -> None:
    attention = random_attention()
    query, key = torch.randn(3, 4).double(), with_one(torch.randn(5, 5).double())
    owner, shared, then = torch.tensor([0, 0, 2, 2, 2]), torch.randn(2).double(), torch.randn(3, 6).double()
    whole = torch.cat([query, shared.expand(3, -1)], dim=1)
    torch.testing.assert_close(
        attention(query, key, owner, shared=shared, then=then), attention(whole, key, owner) @ then.T
    )


def test_attention_dropout_keeps_the_expected_share() -> None:
    torch.manual_seed(0)
    attention = OneQueryAttention(4, 4, dropout=0.1)
    with torch.no_grad():
        attention.value.zero_()
        attention.value[:, -1] = 1.0
        attention.out.copy_(torch.eye(4).view(2, 2, 4))
    key, owner = with_one(torch.randn(40_000, 4)), torch.arange(4_000).repeat_interleave(10)
    total = attention.train()(
        torch.randn(4_000, 4), key, owner
    ).detach()  # value 1 everywhere: what is left is the share
    assert total.std() > 0.01
    assert abs(float(total.mean()) - 1) < 0.01
