import django.contrib.postgres.indexes
import django.core.validators
import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

# The books open with what was recorded before there were books. A request's time is in its id (version 7).
OPENING = """
INSERT INTO billing_usageday (
       organization_id, day, key_id, user_id, model, requests_count, failed_count, input_tokens, cache_read_tokens,
       cache_write_tokens, output_tokens, reasoning_tokens, audio_tokens, cost_nanos, charge_nanos)
SELECT organization_id,
       (to_timestamp(('x' || left(replace(request_id::text, '-', ''), 12))::bit(48)::bigint / 1000)
        AT TIME ZONE 'UTC')::date,
       key_id, user_id, model, count(*), count(*) FILTER (WHERE status >= 400), sum(input_tokens),
       sum(cache_read_tokens), sum(cache_write_tokens), sum(output_tokens), sum(reasoning_tokens), sum(audio_tokens),
       sum(cost_nanos), sum(charge_nanos)
  FROM billing_usage
 WHERE NOT EXISTS (SELECT FROM billing_usageday)
 GROUP BY 1, 2, 3, 4, 5;

INSERT INTO billing_transfer (created_at, amount_nanos, debit_id, credit_id, request_id, kind)
SELECT usage.created_at, usage.cost_nanos, -1, -2, usage.request_id, 2
  FROM billing_usage AS usage
 WHERE usage.cost_nanos > 0
   AND NOT EXISTS (SELECT FROM billing_transfer WHERE request_id = usage.request_id AND kind = 2);
"""


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0002_version_triggers'),
        ('billing', '0005_payments'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Difference',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=64, verbose_name='check')),
                ('subject', models.CharField(max_length=400)),
                ('detail', models.TextField()),
                ('information', models.BooleanField(default=False, help_text='Worth knowing, and no fault.')),
                ('first_seen_at', models.DateTimeField()),
                ('last_seen_at', models.DateTimeField()),
                ('resolved_at', models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name='RedeemBatch',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('form', models.UUIDField(editable=False, unique=True)),
                ('note', models.CharField(help_text="What they are for, such as a campaign's name.", max_length=200)),
                ('amount_nanos', models.BigIntegerField()),
                ('codes_count', models.PositiveIntegerField(validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(10000)], verbose_name='number of codes')),
                ('expires_at', models.DateTimeField(blank=True, help_text='Empty means never.', null=True)),
                ('stopped_at', models.DateTimeField(editable=False, null=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
            ],
            options={
                'verbose_name': 'batch of redeem codes',
                'verbose_name_plural': 'redeem codes',
            },
        ),
        migrations.CreateModel(
            name='RedeemCode',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('digest', models.BinaryField(max_length=32, unique=True)),
                ('redeemed_at', models.DateTimeField(editable=False, null=True)),
            ],
        ),
        migrations.AddIndex(
            model_name='transfer',
            index=django.contrib.postgres.indexes.BrinIndex(autosummarize=True, fields=['created_at'], name='transfer_by_time'),
        ),
        migrations.AddConstraint(
            model_name='difference',
            constraint=models.UniqueConstraint(fields=('name', 'subject'), name='difference_once'),
        ),
        migrations.AddField(
            model_name='redeembatch',
            name='actor',
            field=models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='redeemcode',
            name='batch',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='codes', to='billing.redeembatch'),
        ),
        migrations.AddField(
            model_name='redeemcode',
            name='organization',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='accounts.organization'),
        ),
        migrations.AddField(
            model_name='redeemcode',
            name='user',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddConstraint(
            model_name='redeembatch',
            constraint=models.CheckConstraint(condition=models.Q(('amount_nanos__gt', 0)), name='redeem_amount_above_zero'),
        ),
        migrations.AddConstraint(
            model_name='redeemcode',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('organization', None), ('redeemed_at', None), ('user', None)), models.Q(('organization__isnull', False), ('redeemed_at__isnull', False), ('user__isnull', False)), _connector='OR'), name='redeem_code_redeemed_by_somebody'),
        ),
        migrations.RunSQL(OPENING, migrations.RunSQL.noop),
    ]
