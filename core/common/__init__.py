"""What any package may use: files written in one step, seeded randomness, facts about the hardware.
Knows no records of ours.
"""
