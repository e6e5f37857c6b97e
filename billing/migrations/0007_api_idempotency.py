import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0006_redeem'),
    ]

    operations = [
        migrations.CreateModel(
            name='ApiIdempotency',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('organization_id', models.BigIntegerField()),
                ('path', models.CharField(max_length=100)),
                ('key', models.CharField(max_length=255)),
                ('body_digest', models.BinaryField(max_length=32)),
                ('status', models.SmallIntegerField()),
                ('answer', models.BinaryField()),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
        ),
        migrations.AddIndex(
            model_name='transfer',
            index=models.Index(condition=models.Q(('debit_id__gt', 0), ('request_id__isnull', True)), fields=['debit_id', 'id'], name='transfer_by_payer_apart'),
        ),
        migrations.AddConstraint(
            model_name='apiidempotency',
            constraint=models.UniqueConstraint(fields=('organization_id', 'path', 'key'), name='api_idempotency_once'),
        ),
    ]
