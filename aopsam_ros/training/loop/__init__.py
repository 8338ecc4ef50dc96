"""What every training loop needs: steps, processes, batches, checkpoints' facts and the curve."""
