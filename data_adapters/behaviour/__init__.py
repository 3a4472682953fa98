"""Behavioural judgements: multiple arrangements (Meadows) and odd-one-out triplets."""
