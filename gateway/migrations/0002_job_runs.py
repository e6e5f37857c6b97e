import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('gateway', '0001_stored_responses'),
    ]

    operations = [
        migrations.CreateModel(
            name='Job',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('task', models.CharField(max_length=200, unique=True)),
                ('name', models.CharField(blank=True, max_length=200)),
                ('about', models.CharField(blank=True, max_length=300)),
                ('shipped', models.CharField(blank=True, max_length=400)),
                ('sent_at', models.DateTimeField(null=True)),
                ('due_at', models.DateTimeField(null=True)),
                ('running_since', models.DateTimeField(null=True)),
                ('deadline_at', models.DateTimeField(null=True)),
                ('last_started_at', models.DateTimeField(null=True)),
                ('last_finished_at', models.DateTimeField(null=True)),
                ('last_outcome', models.CharField(blank=True, choices=[('ok', 'ok'), ('failed', 'failed'), ('skipped', 'skipped'), ('timed out', 'timed out')], max_length=16)),
                ('last_error', models.CharField(blank=True, max_length=400)),
                ('runs', models.BigIntegerField(default=0)),
                ('failures', models.BigIntegerField(default=0)),
            ],
            options={
                'ordering': ('name', 'task'),
                'permissions': [('run_job', 'Can run a job now')],
            },
        ),
        migrations.CreateModel(
            name='Heartbeat',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(max_length=16)),
                ('node', models.CharField(max_length=200)),
                ('seen_at', models.DateTimeField()),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('kind', 'node'), name='heartbeat_once_a_node')],
            },
        ),
        migrations.CreateModel(
            name='JobRun',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('started_at', models.DateTimeField()),
                ('finished_at', models.DateTimeField()),
                ('outcome', models.CharField(choices=[('ok', 'ok'), ('failed', 'failed'), ('skipped', 'skipped'), ('timed out', 'timed out')], max_length=16)),
                ('error', models.CharField(blank=True, max_length=400)),
                ('node', models.CharField(max_length=200)),
                ('by_hand', models.BooleanField(default=False)),
                ('repeats', models.IntegerField(default=1)),
                ('job', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='history', to='gateway.job')),
            ],
            options={
                'indexes': [models.Index(fields=['job', '-id'], name='gateway_jobrun_newest')],
            },
        ),
    ]
