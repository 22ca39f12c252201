"""From a packed file to text: the Recognizer protocol and its engines."""
