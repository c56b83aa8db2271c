"""What training minimises. heads/losses/catalogue.py lists the losses; heads/losses/objective.py puts them together."""
