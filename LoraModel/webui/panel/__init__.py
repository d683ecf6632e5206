"""The panel in RVC's inference tab: `inference_panel` builds it, `voices` holds what is loaded."""
