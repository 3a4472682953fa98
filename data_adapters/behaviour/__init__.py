"""Judgements of people: multiple arrangements (Meadows) and odd-one-out triplets."""
