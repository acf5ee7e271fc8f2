"""Notebooks of notes with tags.

The keys are UUIDs, as they are in applications whose rows are made on several devices, and the
table names are explicit so that a test can name them.
"""

import uuid

from django.db import models


class Notebook(models.Model):
    """A named collection of notes."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=200)

    class Meta:
        db_table = "notebook"

    def __str__(self) -> str:
        return self.name


class Tag(models.Model):
    """A label that any note may carry."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=100, unique=True)

    class Meta:
        db_table = "tag"

    def __str__(self) -> str:
        return self.name


class Note(models.Model):
    """A note of a notebook, with a column of each kind that Django maps differently to SQLite."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    notebook = models.ForeignKey(Notebook, on_delete=models.CASCADE, related_name="notes")
    title = models.CharField(max_length=200)
    body = models.TextField(blank=True)
    done = models.BooleanField(default=False)
    rating = models.FloatField(null=True, blank=True)
    updated_at = models.DateTimeField(auto_now=True)
    attachment = models.BinaryField(null=True, blank=True)
    tags = models.ManyToManyField(Tag, through="NoteTag", related_name="notes", blank=True)

    class Meta:
        db_table = "note"

    def __str__(self) -> str:
        return self.title


class NoteTag(models.Model):
    """That a note carries a tag; at most once, whichever device said so."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    note = models.ForeignKey(Note, on_delete=models.CASCADE)
    tag = models.ForeignKey(Tag, on_delete=models.CASCADE)

    class Meta:
        db_table = "note_tag"
        constraints = (models.UniqueConstraint(fields=("note", "tag"), name="note_tag_once"),)

    def __str__(self) -> str:
        return f"{self.note_id} {self.tag_id}"
