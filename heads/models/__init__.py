"""The networks. heads/models/catalogue.py lists the heads; heads/models/model.py builds a whole model around one."""
