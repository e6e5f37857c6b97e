from django.db import migrations, models

from billing import partitions


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0001_initial'),
    ]

    operations = [
        migrations.RunSQL(partitions.FUNCTIONS, partitions.WITHOUT_FUNCTIONS),
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(partitions.TABLE), migrations.RunSQL(partitions.FIRST)],
            state_operations=[
                migrations.RemoveConstraint(
                    model_name='usage',
                    name='usage_cost_not_negative',
                ),
                migrations.RemoveConstraint(
                    model_name='usage',
                    name='usage_tokens_not_negative',
                ),
                migrations.RemoveIndex(
                    model_name='usage',
                    name='usage_by_organization',
                ),
                migrations.RemoveIndex(
                    model_name='usage',
                    name='usage_by_time',
                ),
                migrations.AddField(
                    model_name='usage',
                    name='charge_nanos',
                    field=models.BigIntegerField(default=0, help_text="What the organization's wallet paid."),
                ),
                migrations.AddField(
                    model_name='usage',
                    name='labels',
                    field=models.JSONField(null=True),
                ),
                migrations.AddField(
                    model_name='usage',
                    name='markup_ppm',
                    field=models.IntegerField(default=1000000, help_text='Charge for each million of cost, when it was made.'),
                ),
                migrations.AddField(
                    model_name='usage',
                    name='searches',
                    field=models.SmallIntegerField(default=0),
                ),
                migrations.AddField(
                    model_name='usage',
                    name='service_tier',
                    field=models.CharField(blank=True, max_length=16),
                ),
                migrations.AlterField(
                    model_name='usage',
                    name='audio_tokens',
                    field=models.IntegerField(default=0),
                ),
                migrations.AlterField(
                    model_name='usage',
                    name='cache_read_tokens',
                    field=models.IntegerField(default=0),
                ),
                migrations.AlterField(
                    model_name='usage',
                    name='cache_write_tokens',
                    field=models.IntegerField(default=0),
                ),
                migrations.AlterField(
                    model_name='usage',
                    name='cost_nanos',
                    field=models.BigIntegerField(default=0, help_text='What the upstream costs the house.'),
                ),
                migrations.AlterField(
                    model_name='usage',
                    name='input_tokens',
                    field=models.IntegerField(default=0),
                ),
                migrations.AlterField(
                    model_name='usage',
                    name='output_tokens',
                    field=models.IntegerField(default=0),
                ),
                migrations.AlterField(
                    model_name='usage',
                    name='reasoning_tokens',
                    field=models.IntegerField(default=0),
                ),
                migrations.AlterField(
                    model_name='usage',
                    name='status',
                    field=models.SmallIntegerField(),
                ),
                migrations.AlterField(
                    model_name='usage',
                    name='usage_source',
                    field=models.CharField(help_text='provider, partial, estimate or none', max_length=16),
                ),
                migrations.AddIndex(
                    model_name='usage',
                    index=models.Index(fields=['organization_id', 'request_id'], name='usage_by_organization'),
                ),
                migrations.AddConstraint(
                    model_name='usage',
                    constraint=models.CheckConstraint(condition=models.Q(('charge_nanos__gte', 0), ('cost_nanos__gte', 0)), name='usage_cost_not_negative'),
                ),
                migrations.AddConstraint(
                    model_name='usage',
                    constraint=models.CheckConstraint(condition=models.Q(('audio_tokens__gte', 0), ('cache_read_tokens__gte', 0), ('cache_write_tokens__gte', 0), ('input_tokens__gte', 0), ('output_tokens__gte', 0), ('reasoning_tokens__gte', 0), ('searches__gte', 0)), name='usage_tokens_not_negative'),
                ),
            ],
        ),
    ]
