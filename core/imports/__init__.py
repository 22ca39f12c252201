"""Where models come from that were not trained here, plug-ins: one file per source."""
