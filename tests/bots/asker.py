"""Asks users and waits for their answers in every way that a bot can; writes down who heard what."""

from __future__ import annotations

import os
from pathlib import Path

import disnake
from disnake.ext import commands, tasks

RECORD = os.open(
    Path(__file__).with_name("record.txt"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600
)

bot = commands.AutoShardedInteractionBot(
    intents=disnake.Intents(guilds=True, guild_messages=True, guild_reactions=True)
)


def note(*words: object) -> None:
    os.write(RECORD, (" ".join(map(str, (os.getpid(), *words))) + "\n").encode())


class Choice(disnake.ui.View):
    @disnake.ui.button(label="Yes", custom_id="view-yes")
    async def yes(self, _button: disnake.ui.Button[Choice], inter: disnake.MessageInteraction) -> None:
        note("view")
        await inter.response.send_message("yes")
        self.stop()


class Form(disnake.ui.Modal):
    def __init__(self) -> None:
        field = disnake.ui.TextInput(label="Name", custom_id="name")
        super().__init__(title="Form", custom_id="form", components=[field], timeout=60)

    async def callback(self, inter: disnake.ModalInteraction) -> None:
        note("form")
        await inter.response.send_message("thanks")


@bot.slash_command(description="a view")
async def view(inter: disnake.ApplicationCommandInteraction) -> None:
    await inter.response.send_message("Sure?", view=Choice(timeout=60))


@bot.slash_command(description="waits for a button")
async def ask(inter: disnake.ApplicationCommandInteraction) -> None:
    await inter.response.send_message(
        "Well?", components=disnake.ui.Button(label="Well", custom_id="ask-well")
    )
    pressed = await bot.wait_for(
        "button_click", check=lambda i: i.component.custom_id == "ask-well", timeout=60
    )
    note("ask")
    await pressed.response.send_message("well")


@bot.slash_command(description="a modal")
async def form(inter: disnake.ApplicationCommandInteraction) -> None:
    await inter.response.send_modal(Form())


@bot.slash_command(description="waits for a message")
async def listen(inter: disnake.ApplicationCommandInteraction) -> None:
    await inter.response.send_message("Say something")

    def answers(message: disnake.Message) -> bool:
        return message.channel.id == inter.channel_id and message.author != bot.user

    await bot.wait_for("message", check=answers, timeout=60)
    note("heard")


@bot.slash_command(description="says hello")
async def hello(inter: disnake.ApplicationCommandInteraction) -> None:
    note("hello")
    await inter.response.send_message("hello")


@bot.event
async def on_message(message: disnake.Message) -> None:
    if message.author != bot.user:
        note("message", message.id)


@bot.event
async def on_button_click(inter: disnake.MessageInteraction) -> None:
    note("click", inter.id)


@tasks.loop(seconds=0.2)
async def tick() -> None:
    note("tick")


@bot.event
async def on_ready() -> None:
    note("ready")
    tick.start()


bot.run(os.environ["DISCORD_TOKEN"])
