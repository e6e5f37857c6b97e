import django.contrib.postgres.fields
import django.core.validators
import django.db.models.deletion
import django.db.models.functions.datetime
import django.utils.timezone
from django.db import migrations, models

from billing import triggers


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0002_version_triggers'),
        ('billing', '0002_usage_partitions'),
        ('catalog', '0003_once'),
    ]

    operations = [
        migrations.CreateModel(
            name='Bucket',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('subject', models.CharField(blank=True, max_length=254)),
                ('spent_nanos', models.BigIntegerField(default=0)),
                ('held_nanos', models.BigIntegerField(default=0)),
                ('measured_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('alerted_percent', models.PositiveSmallIntegerField(default=0, editable=False)),
            ],
        ),
        migrations.CreateModel(
            name='Hold',
            fields=[
                ('request_id', models.UUIDField(primary_key=True, serialize=False)),
                ('organization_id', models.BigIntegerField()),
                ('amount_nanos', models.BigIntegerField()),
                ('metered', models.BooleanField(help_text='Whether the wallet pays; else it only records.')),
                ('bucket_ids', django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), default=list, size=None)),
                ('lease_until', models.DateTimeField()),
                ('unfinished', models.JSONField()),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
        ),
        migrations.CreateModel(
            name='IdempotencyKey',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('organization_id', models.BigIntegerField()),
                ('key', models.CharField(max_length=255)),
                ('body_digest', models.BinaryField(max_length=32)),
                ('request_id', models.UUIDField()),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
        ),
        migrations.CreateModel(
            name='Plan',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('slug', models.SlugField(max_length=32, unique=True)),
                ('name', models.CharField(max_length=64, unique=True)),
                ('description', models.TextField(blank=True)),
                ('position', models.PositiveSmallIntegerField(default=0, help_text='Order on the price page.')),
                ('public', models.BooleanField(default=True, help_text='Shown on the price page.')),
                ('markup_ppm', models.PositiveIntegerField(default=1200000, help_text='What is charged for each million of upstream cost: 1200000 is cost x 1.2.', verbose_name='markup (parts per million)')),
                ('price_nanos', models.BigIntegerField(default=0, validators=[django.core.validators.MinValueValidator(0)], verbose_name='monthly price in nano-dollars')),
                ('monthly_credit_nanos', models.BigIntegerField(default=0, help_text='Posted each month; it adds up and never expires.', validators=[django.core.validators.MinValueValidator(0)], verbose_name='included monthly credit in nano-dollars')),
                ('cache_lifetime_s', models.PositiveIntegerField(default=60, verbose_name='cache lifetime in seconds')),
                ('fallback', models.BooleanField(default=False, verbose_name='automatic fallback')),
                ('native_anthropic', models.BooleanField(default=False, verbose_name='native Anthropic endpoint')),
                ('bring_your_own_key', models.BooleanField(default=False)),
                ('stripe_price_id', models.CharField(blank=True, max_length=255)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
            ],
            options={
                'ordering': ['position', 'name'],
            },
        ),
        migrations.CreateModel(
            name='SpendingLimit',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(help_text='As grants name it; <user> makes one for each user.', max_length=150, unique=True, validators=[django.core.validators.RegexValidator('^[A-Za-z0-9:._<>-]{1,150}$', 'Use letters, digits and : . _ - and <user>.')])),
                ('kind', models.CharField(choices=[('refill', 'refills continuously'), ('calendar', 'by calendar')], default='refill', max_length=16)),
                ('capacity_nanos', models.BigIntegerField(validators=[django.core.validators.MinValueValidator(0)])),
                ('rate_nanos', models.BigIntegerField(default=0, help_text='What flows back in each period, where it refills.', validators=[django.core.validators.MinValueValidator(0)])),
                ('period', models.CharField(choices=[('minute', 'minute'), ('hour', 'hour'), ('day', 'day'), ('week', 'week'), ('month', 'month')], default='day', max_length=16)),
                ('hard', models.BooleanField(default=True, help_text='Refuse when it is used up; else only tell.')),
                ('subject', models.CharField(blank=True, help_text='Who it binds without a grant: everyone, user:EMAIL, group:NAME, tag:LABEL, key:ID or org:ID.', max_length=254)),
                ('enabled', models.BooleanField(default=True)),
                ('source', models.CharField(default='admin', editable=False, max_length=16)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
            ],
        ),
        migrations.CreateModel(
            name='Transfer',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('amount_nanos', models.BigIntegerField()),
                ('debit_id', models.BigIntegerField(help_text='The account that gives.')),
                ('credit_id', models.BigIntegerField(help_text='The account that takes.')),
                ('request_id', models.UUIDField(null=True)),
                ('actor_id', models.BigIntegerField(help_text='The user who posted it, if one did.', null=True)),
                ('kind', models.PositiveSmallIntegerField(choices=[(1, 'usage'), (2, 'upstream cost'), (3, 'top-up'), (4, 'refund'), (5, 'dispute'), (6, 'dispute won'), (7, 'plan credit'), (8, 'redeem code'), (9, 'credit'), (10, 'debit'), (11, 'correction'), (12, 'write-off')])),
                ('reference', models.CharField(help_text='A business key, posted once.', max_length=255, null=True)),
                ('reason', models.TextField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name='UsageDay',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('organization_id', models.BigIntegerField()),
                ('day', models.DateField()),
                ('key_id', models.BigIntegerField()),
                ('user_id', models.BigIntegerField()),
                ('model', models.CharField(max_length=256)),
                ('requests_count', models.BigIntegerField(default=0)),
                ('failed_count', models.BigIntegerField(default=0)),
                ('input_tokens', models.BigIntegerField(default=0)),
                ('cache_read_tokens', models.BigIntegerField(default=0)),
                ('cache_write_tokens', models.BigIntegerField(default=0)),
                ('output_tokens', models.BigIntegerField(default=0)),
                ('reasoning_tokens', models.BigIntegerField(default=0)),
                ('audio_tokens', models.BigIntegerField(default=0)),
                ('cost_nanos', models.BigIntegerField(default=0)),
                ('charge_nanos', models.BigIntegerField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name='Wallet',
            fields=[
                ('organization', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, primary_key=True, related_name='wallet', serialize=False, to='accounts.organization')),
                ('mode', models.CharField(choices=[('prepaid', 'prepaid'), ('unmetered', 'unmetered')], max_length=16)),
                ('posted_nanos', models.BigIntegerField(default=0, editable=False)),
                ('held_nanos', models.BigIntegerField(default=0, editable=False)),
                ('overdraft_nanos', models.BigIntegerField(default=0, help_text='How far below zero it may be taken on purpose.')),
                ('funded', models.BooleanField(default=False, editable=False, help_text='Whether it has credit: no sandbox limit.')),
                ('frozen_at', models.DateTimeField(blank=True, help_text='Nothing is admitted while it is set: a dispute.', null=True)),
                ('low_balance_nanos', models.BigIntegerField(blank=True, help_text='A mail is sent below it.', null=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
            ],
        ),
        migrations.AddConstraint(
            model_name='hold',
            constraint=models.CheckConstraint(condition=models.Q(('amount_nanos__gte', 0)), name='hold_amount_not_negative'),
        ),
        migrations.AddConstraint(
            model_name='idempotencykey',
            constraint=models.UniqueConstraint(fields=('organization_id', 'key'), name='idempotency_key_once'),
        ),
        migrations.AddConstraint(
            model_name='plan',
            constraint=models.CheckConstraint(condition=models.Q(('markup_ppm__gte', 0), ('monthly_credit_nanos__gte', 0), ('price_nanos__gte', 0)), name='plan_amounts_not_negative'),
        ),
        migrations.AddField(
            model_name='bucket',
            name='limit',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='buckets', to='billing.spendinglimit'),
        ),
        migrations.AddField(
            model_name='transfer',
            name='corrects',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='corrections', to='billing.transfer'),
        ),
        migrations.AddConstraint(
            model_name='usageday',
            constraint=models.UniqueConstraint(fields=('organization_id', 'day', 'key_id', 'user_id', 'model'), name='usage_day_once'),
        ),
        migrations.AddField(
            model_name='wallet',
            name='plan',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='wallets', to='billing.plan'),
        ),
        migrations.AddConstraint(
            model_name='bucket',
            constraint=models.UniqueConstraint(fields=('limit', 'subject'), name='bucket_once'),
        ),
        migrations.AddConstraint(
            model_name='bucket',
            constraint=models.CheckConstraint(condition=models.Q(('held_nanos__gte', 0)), name='bucket_held_not_negative'),
        ),
        migrations.AddIndex(
            model_name='transfer',
            index=models.Index(condition=models.Q(('debit_id__gt', 0)), fields=['debit_id', 'id'], name='transfer_by_payer'),
        ),
        migrations.AddIndex(
            model_name='transfer',
            index=models.Index(condition=models.Q(('credit_id__gt', 0)), fields=['credit_id', 'id'], name='transfer_by_payee'),
        ),
        migrations.AddConstraint(
            model_name='transfer',
            constraint=models.CheckConstraint(condition=models.Q(('amount_nanos__gt', 0)), name='transfer_amount_above_zero'),
        ),
        migrations.AddConstraint(
            model_name='transfer',
            constraint=models.CheckConstraint(condition=models.Q(('debit_id', models.F('credit_id')), _negated=True), name='transfer_two_accounts'),
        ),
        migrations.AddConstraint(
            model_name='transfer',
            constraint=models.CheckConstraint(condition=models.Q(('credit_id__gte', -8), ('debit_id__gte', -8), models.Q(('debit_id', 0), _negated=True), models.Q(('credit_id', 0), _negated=True)), name='transfer_known_accounts'),
        ),
        migrations.AddConstraint(
            model_name='transfer',
            constraint=models.CheckConstraint(condition=models.Q(('corrects__isnull', False), models.Q(('kind', 11), _negated=True), _connector='OR'), name='transfer_correction_names_what'),
        ),
        migrations.AddConstraint(
            model_name='transfer',
            constraint=models.UniqueConstraint(condition=models.Q(('request_id__isnull', False)), fields=('request_id', 'kind'), name='transfer_once_for_request'),
        ),
        migrations.AddConstraint(
            model_name='transfer',
            constraint=models.UniqueConstraint(condition=models.Q(('reference__isnull', False)), fields=('reference',), name='transfer_reference_once'),
        ),
        migrations.AddConstraint(
            model_name='wallet',
            constraint=models.CheckConstraint(condition=models.Q(('held_nanos__gte', 0)), name='wallet_held_not_negative'),
        ),
        migrations.AddConstraint(
            model_name='wallet',
            constraint=models.CheckConstraint(condition=models.Q(('overdraft_nanos__gte', 0)), name='wallet_overdraft_not_negative'),
        ),
        migrations.RunSQL(triggers.MONEY, triggers.WITHOUT_MONEY),
    ]
