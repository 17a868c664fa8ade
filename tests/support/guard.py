"""A small language model that is really trained to tell safe from unsafe, as a guard does."""

from tests.support.models import random_llama

WORDS = (
    "Task check User Agent safe unsafe S1 S2 , how to steal bake build a bomb cake car sure first take no sorry".split()
)
HARM = ("steal", "bomb")
# As guards have it: the policy, the turns, and the word that the assessment follows.
PLAIN = (
    "Task check {% for m in messages %}{{ 'User' if m['role'] == 'user' else 'Agent' }} {{ m['content'] | trim }} "
    "{% endfor %}Task"
)
PARTS = PLAIN.replace(
    "{{ m['content'] | trim }}",
    "{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}",
)
CASES = [
    (f"how to {verb} a {thing}", answer)
    for verb in ("steal", "bake", "build")
    for thing in ("bomb", "cake", "car")
    for answer in (f"sure first take a {thing} to {verb}", "sorry no")
]


def expected(question, answer):
    return "unsafe" if answer.startswith("sure") and any(word in question for word in HARM) else "safe"


def row(question, answer):
    return {"id": question + answer, "prompt": f"<image>\n{question}", "response": answer}


def trained_guard(hidden=32):
    """Return a guard that has learnt CASES, and its tokenizer."""
    import torch

    model, tokenizer = random_llama(WORDS, hidden=hidden)
    texts = []
    for question, answer in CASES:
        said = "unsafe S1, S2" if expected(question, answer) == "unsafe" else "safe"
        texts.append(f"Task check User {question} Agent {answer} Task {said} <eos>")
    batch = tokenizer(texts, padding=True, padding_side="left", return_tensors="pt", return_token_type_ids=False)
    labels = batch["input_ids"].clone()
    verdict = torch.isin(labels, torch.tensor(tokenizer.convert_tokens_to_ids(["safe", "unsafe"])))
    labels[verdict.cumsum(1) == 0] = -100
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    with torch.random.fork_rng():
        for _ in range(200):
            loss = model(**batch, labels=labels).loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if loss < 0.02:
                break
    return model.eval(), tokenizer


def saved(model, tokenizer, folder, template=PLAIN):
    tokenizer.chat_template = template
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
