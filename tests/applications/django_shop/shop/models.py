"""Books, their authors, tags and remarks, with the keys that Django gives by default: 1, 2, 3."""

from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models


class Author(models.Model):
    name = models.CharField(max_length=100)
    teacher = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="pupils")

    def __str__(self) -> str:
        return self.name


class Tag(models.Model):
    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class Remark(models.Model):
    """On anything; a generic reference, which the database knows nothing of."""

    text = models.TextField()
    content_type = models.ForeignKey(ContentType, on_delete=models.CASCADE)
    object_id = models.PositiveBigIntegerField()
    about = GenericForeignKey()

    def __str__(self) -> str:
        return self.text


class Book(models.Model):
    title = models.CharField(max_length=100)
    author = models.ForeignKey(Author, on_delete=models.CASCADE, related_name="books")
    tags = models.ManyToManyField(Tag, related_name="books")
    remarks = GenericRelation(Remark)

    def __str__(self) -> str:
        return self.title
