"""Components that move in the browser: the one-screen view of a supernet (data.py makes what
component.js draws), and microphone and player (speech.py, speech.js). Nothing here knows a page.
"""
