"""The openai SDK against victor, with the simulator as provider."""

import json
import os
import unittest

import openai

URL = os.environ["VICTOR_URL"] + "/v1"
KEY = os.environ["VICTOR_KEY"]
HELLO = [{"role": "user", "content": "Hello there"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


class OpenAI(unittest.TestCase):
    def setUp(self):
        self.client = openai.OpenAI(base_url=URL, api_key=KEY)
        # A client that shows an error at once instead of asking again.
        self.plain = self.client.with_options(max_retries=0)

    def tearDown(self):
        self.client.close()

    def test_chat(self):
        answer = self.client.chat.completions.create(model="simo/sim", messages=HELLO)
        self.assertEqual(answer.object, "chat.completion")
        self.assertTrue(answer.choices[0].message.content)
        self.assertEqual(answer.choices[0].finish_reason, "stop")
        total = answer.usage.prompt_tokens + answer.usage.completion_tokens
        self.assertEqual(answer.usage.total_tokens, total)

    def test_streaming(self):
        stream = self.client.chat.completions.create(
            model="simo/sim+pace-2x16",
            messages=HELLO,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
        parts = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
        self.assertEqual(len(parts), 16)
        reasons = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
        self.assertEqual(len(reasons), 1)
        self.assertEqual(chunks[-1].usage.completion_tokens, 16)

    def test_the_streaming_helper(self):
        with self.client.chat.completions.stream(model="simo/sim+pace-2x8", messages=HELLO) as stream:
            kinds = {event.type for event in stream}
            final = stream.get_final_completion()
        self.assertIn("content.delta", kinds)
        self.assertTrue(final.choices[0].message.content)

    def test_a_tool_round_trip(self):
        first = self.client.chat.completions.create(
            model="simo/sim+tools", messages=HELLO, tools=[TOOL]
        )
        self.assertEqual(first.choices[0].finish_reason, "tool_calls")
        call = first.choices[0].message.tool_calls[0]
        self.assertEqual(call.function.name, "get_weather")
        self.assertIn("city", json.loads(call.function.arguments))
        second = self.client.chat.completions.create(
            model="simo/sim+tools",
            tools=[TOOL],
            messages=HELLO
            + [
                first.choices[0].message.model_dump(exclude_none=True),
                {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
            ],
        )
        self.assertEqual(second.choices[0].finish_reason, "stop")
        self.assertTrue(second.choices[0].message.content)

    def test_a_streamed_tool_call(self):
        arguments, names, reason = "", [], None
        stream = self.client.chat.completions.create(
            model="simo/sim+tools", messages=HELLO, tools=[TOOL], stream=True
        )
        for chunk in stream:
            if not chunk.choices:
                continue
            for call in chunk.choices[0].delta.tool_calls or []:
                names += [call.function.name] if call.function.name else []
                arguments += call.function.arguments or ""
            reason = chunk.choices[0].finish_reason or reason
        self.assertEqual(names, ["get_weather"])
        self.assertIn("city", json.loads(arguments))
        self.assertEqual(reason, "tool_calls")

    def test_embeddings(self):
        for encoding in ("float", "base64", openai.NOT_GIVEN):
            answer = self.client.embeddings.create(
                model="simo/sim", input=["one", "two"], encoding_format=encoding
            )
            self.assertEqual([item.index for item in answer.data], [0, 1])
            self.assertGreater(len(answer.data[0].embedding), 1)
            self.assertGreater(answer.usage.total_tokens, 0)

    def test_models(self):
        ids = [model.id for model in self.client.models.list()]
        self.assertIn("sim", ids)
        self.assertEqual(self.client.models.retrieve("sim").id, "sim")
        with self.assertRaises(openai.NotFoundError):
            self.plain.models.retrieve("nothing-like-it")

    def test_the_request_id_is_shown(self):
        raw = self.client.chat.completions.with_raw_response.create(model="simo/sim", messages=HELLO)
        self.assertEqual(raw.headers["x-victor-provider"], "simo")
        self.assertTrue(raw.parse()._request_id)

    def check(self, model, error, status, streamed=(False, True)):
        for stream in streamed:
            with self.subTest(model=model, stream=stream):
                with self.assertRaises(error) as caught:
                    self.plain.chat.completions.create(model=model, messages=HELLO, stream=stream)
                self.assertIn(caught.exception.status_code, status)
                self.assertTrue(caught.exception.message)
                self.assertTrue(caught.exception.request_id)

    def test_typed_errors(self):
        self.check("simo/sim+context-length", openai.BadRequestError, [400])
        self.check("nobody/nothing", openai.NotFoundError, [404])
        self.check("simo/sim+status-429", openai.RateLimitError, [429])
        self.check("simo/sim+status-500", openai.InternalServerError, [500, 502])
        self.check("simo/sim+status-529", openai.InternalServerError, [529, 502, 503])

    def test_a_wrong_key(self):
        client = openai.OpenAI(base_url=URL, api_key="wrong", max_retries=0)
        with self.assertRaises(openai.AuthenticationError) as caught:
            client.chat.completions.create(model="simo/sim", messages=HELLO)
        self.assertEqual(caught.exception.status_code, 401)
        client.close()

    def test_a_context_that_is_too_long_is_told_with_its_code(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            self.plain.chat.completions.create(model="simo/sim+context-length", messages=HELLO)
        self.assertEqual(caught.exception.code, "context_length_exceeded")

    def test_a_stream_that_breaks_raises(self):
        stream = self.plain.chat.completions.create(
            model="simo/sim+pace-1x20+cut-5", messages=HELLO, stream=True
        )
        with self.assertRaises(openai.APIError):
            for _ in stream:
                pass

    def test_comments_are_passed_over_while_it_waits(self):
        stream = self.plain.chat.completions.create(
            model="simo/sim+pace-2x8+latency-1500", messages=HELLO, stream=True
        )
        self.assertNotIn("x-victor-provider", stream.response.headers)
        parts = [c.choices[0].delta.content for c in stream if c.choices and c.choices[0].delta.content]
        self.assertEqual(len(parts), 8)

    def test_an_error_behind_comments_raises(self):
        for model in ("simo/sim+status-500+latency-1500", "sima/sim+status-500+latency-1500"):
            stream = self.plain.chat.completions.create(model=model, messages=HELLO, stream=True)
            with self.assertRaises(openai.APIError) as caught:
                list(stream)
            self.assertTrue(caught.exception.message)


if __name__ == "__main__":
    unittest.main()
