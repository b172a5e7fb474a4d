"""The anthropic SDK against victor, with the simulator as provider."""

import os
import unittest

import anthropic

URL = os.environ["VICTOR_URL"]
KEY = os.environ["VICTOR_KEY"]
HELLO = [{"role": "user", "content": "Hello there"}]
TOOL = {
    "name": "get_weather",
    "description": "The weather of a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


class Anthropic(unittest.TestCase):
    def setUp(self):
        self.client = anthropic.Anthropic(base_url=URL, api_key=KEY)
        # A client that shows an error at once instead of asking again.
        self.plain = self.client.with_options(max_retries=0)

    def tearDown(self):
        self.client.close()

    def call(self, model, **more):
        return self.client.messages.create(model=model, max_tokens=64, messages=HELLO, **more)

    def test_a_message(self):
        answer = self.call("sima/sim", system="Be brief.")
        self.assertEqual(answer.type, "message")
        self.assertTrue(answer.content[0].text)
        self.assertEqual(answer.stop_reason, "end_turn")
        self.assertGreater(answer.usage.input_tokens, 0)
        self.assertGreater(answer.usage.output_tokens, 0)

    def test_streaming(self):
        kinds = [event.type for event in self.call("sima/sim+pace-2x16", stream=True)]
        self.assertEqual(kinds[0], "message_start")
        self.assertEqual(kinds[-1], "message_stop")
        self.assertEqual(kinds.count("content_block_delta"), 16)

    def test_the_streaming_helper(self):
        with self.client.messages.stream(
            model="sima/sim+pace-2x8", max_tokens=64, messages=HELLO
        ) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        self.assertTrue(text)
        self.assertEqual(final.content[0].text, text)
        self.assertEqual(final.usage.output_tokens, 8)

    def test_a_tool_round_trip(self):
        first = self.call("sima/sim+tools", tools=[TOOL])
        self.assertEqual(first.stop_reason, "tool_use")
        use = [block for block in first.content if block.type == "tool_use"][0]
        self.assertEqual(use.name, "get_weather")
        self.assertIn("city", use.input)
        second = self.client.messages.create(
            model="sima/sim+tools",
            max_tokens=64,
            tools=[TOOL],
            messages=HELLO
            + [
                {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in first.content]},
                {
                    "role": "user",
                    "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}],
                },
            ],
        )
        self.assertEqual(second.stop_reason, "end_turn")
        self.assertTrue(second.content[0].text)

    def test_a_streamed_tool_call(self):
        with self.client.messages.stream(
            model="sima/sim+tools", max_tokens=64, messages=HELLO, tools=[TOOL]
        ) as stream:
            final = stream.get_final_message()
        use = [block for block in final.content if block.type == "tool_use"][0]
        self.assertIn("city", use.input)
        self.assertEqual(final.stop_reason, "tool_use")

    def test_counted_tokens(self):
        count = self.client.messages.count_tokens(model="sima/sim", messages=HELLO)
        self.assertGreater(count.input_tokens, 0)

    def test_models(self):
        ids = [model.id for model in self.client.models.list()]
        self.assertIn("sim", ids)
        self.assertEqual(self.client.models.retrieve("sim").id, "sim")
        with self.assertRaises(anthropic.NotFoundError):
            self.plain.models.retrieve("nothing-like-it")

    def test_the_headers_are_shown(self):
        raw = self.client.messages.with_raw_response.create(
            model="sima/sim", max_tokens=64, messages=HELLO
        )
        self.assertEqual(raw.headers["x-victor-provider"], "sima")
        self.assertTrue(raw.headers["x-request-id"])

    def check(self, model, error, status, streamed=(False, True)):
        for stream in streamed:
            with self.subTest(model=model, stream=stream):
                with self.assertRaises(error) as caught:
                    self.plain.messages.create(
                        model=model, max_tokens=64, messages=HELLO, stream=stream
                    )
                self.assertIn(caught.exception.status_code, status)
                self.assertEqual(caught.exception.body["type"], "error")
                self.assertTrue(caught.exception.body["error"]["message"])

    def test_typed_errors(self):
        self.check("sima/sim+context-length", anthropic.BadRequestError, [400])
        self.check("nobody/nothing", anthropic.NotFoundError, [404])
        self.check("sima/sim+status-429", anthropic.RateLimitError, [429])
        self.check("sima/sim+status-500", anthropic.InternalServerError, [500, 502])
        self.check("sima/sim+status-529", anthropic.APIStatusError, [529, 502, 503])

    def test_a_wrong_key(self):
        client = anthropic.Anthropic(base_url=URL, api_key="wrong", max_retries=0)
        with self.assertRaises(anthropic.AuthenticationError) as caught:
            client.messages.create(model="sima/sim", max_tokens=64, messages=HELLO)
        self.assertEqual(caught.exception.body["error"]["type"], "authentication_error")
        client.close()

    def test_a_stream_that_breaks_raises(self):
        stream = self.plain.messages.create(
            model="sima/sim+pace-1x20+cut-5", max_tokens=64, messages=HELLO, stream=True
        )
        with self.assertRaises(anthropic.APIError):
            for _ in stream:
                pass

    def test_comments_are_passed_over_while_it_waits(self):
        stream = self.call("sima/sim+pace-2x8+latency-1500", stream=True)
        self.assertNotIn("x-victor-provider", stream.response.headers)
        kinds = [event.type for event in stream]
        self.assertEqual(kinds[-1], "message_stop")
        self.assertEqual(kinds.count("content_block_delta"), 8)

    def test_an_error_behind_comments_raises(self):
        for model in ("sima/sim+status-500+latency-1500", "simo/sim+status-500+latency-1500"):
            stream = self.plain.messages.create(
                model=model, max_tokens=64, messages=HELLO, stream=True
            )
            with self.assertRaises(anthropic.APIError) as caught:
                list(stream)
            self.assertTrue(caught.exception.message)


if __name__ == "__main__":
    unittest.main()
