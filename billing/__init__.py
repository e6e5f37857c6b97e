"""Money: usage rows, prices in force and, at the bottom of it, the journal that makes them durable."""
