"""What can be chosen: plug-ins and their cards, recipes, sets of recipes. Text and names, no
torch.
"""
