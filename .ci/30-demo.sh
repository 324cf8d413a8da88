# What a new user types first, and that the second time costs nothing.
make demo
make demo
make demo-chat
make demo-chat QUESTION="What is the capital of France?" | tee build/demo/answer.txt
grep -q Paris build/demo/answer.txt
