"""What a run will cost, before it begins: this machine probed, or a card predicted; bytes, hours, dollars."""
