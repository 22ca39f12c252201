"""What pages know beyond stored records: slider stops, masks, what fits a device, comparisons,
transcription. No widgets.
"""
