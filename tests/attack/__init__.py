"The attack: what tries in earnest to make the product wrong without a word. `python -m tests.attack` runs it."
