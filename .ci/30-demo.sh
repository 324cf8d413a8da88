# What a new user types first, and that the second time costs nothing.
make demo
make demo
make demo-chat
make demo-chat QUESTION="Where is the Eiffel Tower?" | tee build/demo/answer.txt
grep -q Paris build/demo/answer.txt
# A student of half the size, which learns for less long than in `make demo-distill`, tells a story too.
make demo-distill DISTILL="--stories 40 --tokens 12000" | tee build/demo/distilled.txt
grep -A1 "^--- the student" build/demo/distilled.txt | grep "Once upon a time"
# Ten turns with it: each ends, the persona outlives the window, and a conversation equals the same messages given whole.
EDGEKIT_SLOW=1 .venv/bin/python -m pytest -q -m slow tests/python/test_chat_session.py
