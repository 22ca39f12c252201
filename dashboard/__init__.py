"""The Streamlit dashboard: pages over core's floors 0 and 1; torch is loaded only where audio is
transcribed.
"""
