"""The parts of the sample model's training: text, tokenizer, optimizer, model card."""
