from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0007_api_idempotency'),
    ]

    operations = [
        migrations.AddField(
            model_name='bucket',
            name='alerted_at',
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name='wallet',
            name='low_balance_told_at',
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddConstraint(
            model_name='spendinglimit',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ('refill', 'calendar')), ('period__in', ('minute', 'hour', 'day', 'week', 'month'))), name='spendinglimit_known_kind'),
        ),
        migrations.AddConstraint(
            model_name='spendinglimit',
            constraint=models.CheckConstraint(condition=models.Q(('capacity_nanos__gte', 0), ('rate_nanos__gte', 0)), name='spendinglimit_not_negative'),
        ),
    ]
