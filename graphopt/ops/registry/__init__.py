"""How cards are registered, with the cases that test them."""
