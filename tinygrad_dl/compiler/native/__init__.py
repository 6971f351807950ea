"""Programs as machine code: text of LLVM IR, and what makes it run."""
