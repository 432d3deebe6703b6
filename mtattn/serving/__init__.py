"""An exported model behind HTTP. Nothing here needs torch: onnxruntime, Pillow, FastAPI and uvicorn do."""
