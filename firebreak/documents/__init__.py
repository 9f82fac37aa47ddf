"""What every data file needs: YAML with positions, durations, PromQL with placeholders, the condition block."""
