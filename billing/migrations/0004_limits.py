import django.core.validators
import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

from accounts import triggers


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0002_version_triggers'),
        ('billing', '0003_money'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Limit',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('scope', models.CharField(choices=[('key', 'one key'), ('user', 'one user'), ('organization', 'one organization'), ('model', 'models, all callers together'), ('plan', 'each organization of a plan'), ('sandbox', 'free models for each user without credit')], max_length=16)),
                ('model_glob', models.CharField(blank=True, help_text='A glob of public ids: * is one segment, ** is any number. All that it matches count together.', max_length=256, verbose_name='models')),
                ('kind', models.CharField(choices=[('requests_per_minute', 'requests a minute'), ('tokens_per_minute', 'tokens a minute'), ('requests_per_day', 'requests a day'), ('tokens_per_day', 'tokens a day'), ('concurrency', 'requests at once')], max_length=32)),
                ('amount', models.BigIntegerField(validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(1000000000000)])),
                ('enabled', models.BooleanField(default=True)),
                ('source', models.CharField(default='admin', editable=False, max_length=16)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('key', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='limits', to='accounts.apikey')),
                ('organization', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='limits', to='accounts.organization')),
                ('plan', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='limits', to='billing.plan')),
                ('user', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='limits', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('amount__gte', 1), ('amount__lte', 1000000000000)), name='limit_amount_possible'), models.CheckConstraint(condition=models.Q(('kind__in', ['requests_per_minute', 'tokens_per_minute', 'requests_per_day', 'tokens_per_day', 'concurrency'])), name='limit_kind_known'), models.CheckConstraint(condition=models.Q(models.Q(('key__isnull', False), ('model_glob', ''), ('organization', None), ('plan', None), ('scope', 'key'), ('user', None)), models.Q(('key', None), ('model_glob', ''), ('organization', None), ('plan', None), ('scope', 'user'), ('user__isnull', False)), models.Q(('key', None), ('model_glob', ''), ('organization__isnull', False), ('plan', None), ('scope', 'organization'), ('user', None)), models.Q(('key', None), ('model_glob', ''), ('organization', None), ('plan__isnull', False), ('scope', 'plan'), ('user', None)), models.Q(models.Q(('key', None), ('organization', None), ('plan', None), ('scope', 'model'), ('user', None)), models.Q(('model_glob', ''), _negated=True)), models.Q(('key', None), ('model_glob', ''), ('organization', None), ('plan', None), ('scope', 'sandbox'), ('user', None)), _connector='OR'), name='limit_names_what_its_scope_says'), models.UniqueConstraint(fields=('key', 'kind'), name='limit_once_for_key'), models.UniqueConstraint(fields=('user', 'kind'), name='limit_once_for_user'), models.UniqueConstraint(fields=('organization', 'kind'), name='limit_once_for_organization'), models.UniqueConstraint(fields=('plan', 'kind'), name='limit_once_for_plan'), models.UniqueConstraint(condition=models.Q(('scope', 'model')), fields=('model_glob', 'kind'), name='limit_once_for_model'), models.UniqueConstraint(condition=models.Q(('scope', 'sandbox')), fields=('kind',), name='limit_once_for_sandbox')],
            },
        ),
        migrations.RunSQL(triggers.create('billing_limit', 'catalog'), triggers.drop('billing_limit')),
    ]
