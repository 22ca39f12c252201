"""DataFrames and arrays to Plotly figures; no Streamlit, no files, no torch."""
