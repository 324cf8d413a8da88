# What a new user types first, and that the second time costs nothing.
make demo
make demo
make demo-chat
make demo-chat QUESTION="Where is the Eiffel Tower?" | tee build/demo/answer.txt
grep -q Paris build/demo/answer.txt
# Distillation, in a short form: a student of half the size tells a story too.
.venv/bin/python samples/distill_sample_model.py -o build/distilled-short --stories 40 --tokens 12000 | tee build/demo/distilled.txt
test "$(grep -c "Once upon a time" build/demo/distilled.txt)" = 2
# Ten turns with it: each ends, the persona outlives the window, and a conversation equals the same messages given whole.
EDGEKIT_SLOW=1 .venv/bin/python -m pytest -q -m slow tests/python/test_chat_session.py
