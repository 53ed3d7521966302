"""Lists that the rules of entities look words up in: kinds of things that spelling alone does not tell.

Every list is in lower case, unless case is what counts. They are no dictionary: a name that is on none of them is still
found where its surroundings give it away, only its kind may then be `name`.
"""

from pathlib import Path


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _lines(text: str) -> frozenset[str]:
    return frozenset(part.strip() for part in text.split(",") if part.strip())


# Words that our own evaluation texts write in lower case: who begins a sentence with one names nothing.
COMMON = _set((Path(__file__).parent / "common_words.txt").read_text(encoding="utf-8"))

# --- code

EXTENSIONS = _set("""
py pyi ipynb js mjs cjs jsx ts tsx vue svelte go rs c h cc cpp hpp cs java kt kts swift m mm rb php pl lua r
jl scala clj ex exs erl hs ml dart zig nim sh bash zsh fish ps1 bat cmd sql html htm css scss less xml xsl svg
json jsonl json5 yaml yml toml ini cfg conf env properties plist lock md mdx rst txt adoc tex csv tsv parquet
pkl npy pt onnx safetensors proto graphql tf tfvars hcl gradle cmake mk dockerfile log pdf doc docx xls xlsx
ppt pptx odt png jpg jpeg gif webp ico mp3 mp4 wav zip tar gz tgz bz2 xz zst whl jar war apk ipa deb rpm so
dll dylib exe pem crt key cer pub sock pid db sqlite sqlite3 dump bak tmp diff patch j2 jinja tpl tmpl hbs ejs
service timer socket rules
""")
FILES = _set("""
makefile dockerfile jenkinsfile procfile vagrantfile gemfile rakefile brewfile caddyfile justfile codeowners
.env .gitignore .dockerignore .npmrc .nvmrc .editorconfig .bashrc .zshrc .profile .gitattributes .eslintrc
.prettierrc .python-version .tool-versions .gitconfig .vimrc .netrc .pgpass
""")
TOP_DOMAINS = _set("""
com org net io dev app ai co edu gov mil int info biz me tv cloud tech site online eu de at ch fr it es pt nl
be uk ie dk se no fi is pl cz sk hu ro bg gr tr ru ua by ee lv lt us ca mx br ar cl au nz jp cn kr in za
example test invalid local internal lan intranet corp home localdomain onion svc
""")
PROGRAMS = _set("""
git gh glab hg svn docker docker-compose podman kubectl helm k9s minikube kind terraform tofu terragrunt
ansible ansible-playbook packer vagrant aws gcloud az doctl flyctl heroku npm npx yarn pnpm bun node deno tsc
eslint prettier jest vitest pip pipx uv uvx poetry pipenv conda mamba python python3 pytest tox nox ruff black
mypy flake8 isort pylint alembic django-admin celery gunicorn uvicorn granian flask cargo rustup rustc go
gofmt gradle gradlew mvn mvnw java javac kotlinc sbt dotnet nuget msbuild swift xcodebuild pod fastlane
flutter dart adb expo eas bundle gem rake rails composer php artisan mix cmake ctest ninja bazel make just
psql pg_dump pg_dumpall pg_restore pg_ctl pgbench mysql mysqldump sqlite3 redis-cli valkey-cli mongosh
mongodump kafka-topics clickhouse-client ssh scp sftp rsync curl wget systemctl journalctl apt apt-get dnf yum
apk brew pacman snap tmux nginx certbot openssl jq yq sed awk grep rg fd sudo chmod chown crontab nohup py-spy
perf strace gdb lldb valgrind ffmpeg magick playwright cypress pre-commit act semgrep trivy hadolint
shellcheck ollama wrangler vercel netlify supabase prisma turbo nx lerna
""")
# Talked about more often than called: outside backticks only a subcommand or a flag shows that one is called.
TALKED_ABOUT = _set("""
make go just act node expo bundle gem rake rails mix pod eas composer swift java dart kind fish snap black
flask celery python python3 terraform ansible docker kubectl helm nginx flutter redis mysql packer vagrant
heroku az bun deno perf vercel netlify supabase prisma turbo nx php cypress playwright jest vitest eslint
prettier ollama sudo apk brew openssl git npm pip cargo poetry pytest tox uv gradle curl ssh psql aws gcloud
gh rg fd sed awk grep dotnet tmux conda podman
""")
# Words of English: outside backticks only a flag shows it.
ENGLISH_TOO = _set(
    "make go just act node expo bundle gem rake rails mix pod eas composer kind fish snap black flask dart"
)
# What follows these is an argument.
WITHOUT_SUBCOMMANDS = _set("""
pytest tox ssh scp curl wget psql pg_dump pg_restore python python3 node bash grep rg fd sed awk ansible-
playbook py-spy eslint black mypy ruff jq perf rsync prettier tsc gunicorn uvicorn chmod chown ffmpeg pg_ctl
sudo
""")
SUBCOMMANDS = _set("""
add am apply bisect blame branch build check checkout cherry-pick ci clean clippy clone commit compose config
cp create delete deploy describe destroy diff down drain dev exec export fetch fix fmt freeze get history
images import init inspect install invoke link lint list lock log login logs merge migrate outdated plan port-
forward prune ps publish pull push rebase record refresh reload remote remove reset restart restore restow
revert rm rollback rollout run scale search serve show stack start stash state status stop submodule switch
sync system tag taint test tidy top tree uninstall unlock up update upgrade validate version vet watch
worktree
""")
ERRNOS = _set("""
E2BIG EACCES EADDRINUSE EADDRNOTAVAIL EAGAIN EALREADY EBADF EBUSY ECANCELED ECHILD ECONNABORTED ECONNREFUSED
ECONNRESET EDEADLK EDQUOT EEXIST EFAULT EFBIG EHOSTUNREACH EINPROGRESS EINTR EINVAL EIO EISCONN EISDIR ELOOP
EMFILE EMSGSIZE ENAMETOOLONG ENETDOWN ENETUNREACH ENFILE ENOBUFS ENODEV ENOENT ENOEXEC ENOLCK ENOMEM ENOSPC
ENOSYS ENOTCONN ENOTDIR ENOTEMPTY ENOTFOUND ENOTSOCK ENOTSUP EOVERFLOW EPERM EPIPE EPROTO ERANGE EROFS ESRCH
ESTALE ETIMEDOUT EXDEV ERESOLVE ELIFECYCLE EINTEGRITY ETARGET EAI_AGAIN NXDOMAIN SERVFAIL OOMKilled
CrashLoopBackOff ImagePullBackOff ErrImagePull Evicted SIGABRT SIGBUS SIGFPE SIGHUP SIGILL SIGINT SIGKILL
SIGPIPE SIGQUIT SIGSEGV SIGTERM SIGUSR1 SIGUSR2 UNAVAILABLE DEADLINE_EXCEEDED RESOURCE_EXHAUSTED
PERMISSION_DENIED FAILED_PRECONDITION UNAUTHENTICATED SQLITE_BUSY
""")
CODE_PREFIXES = _set("""
TS E F W C B P R DJ SIM PLR PLC PLE PLW RUF UP S N D CS LNK MSB NU CA SC MD ERR ORA PGRST T SA ST U QF LINT
PERF FBT ANN
""")
# Look like an issue of a tracker, and are none.
NO_ISSUES = _set(
    "DNS UTF UTF8 SHA SHA1 SHA2 MD ISO RFC HTTP TLS SSL AES RSA PEP COVID IEEE IPV CP WIN KOI TOP FIG MP RTX GTX GPT"
)
FUNCTION_VERBS = _set("""
get set fetch use is has can on handle make create build parse load save render update delete remove find try
do run start stop open close read write send receive check verify validate assert test add append insert merge
split join sort filter map reduce apply call init setup teardown register connect disconnect encode decode
encrypt decrypt hash sign compute calculate convert to from format print log emit dispatch publish subscribe
resolve reject retry wait sleep lock unlock acquire release refresh reload reset clear flush commit rollback
begin end embed search query select count list show hide toggle enable disable export import upload download
sync schedule cancel match compare normalize sanitize
""")

# --- prose

TITLES = _set("""
mr mrs ms miss mx dr prof professor sir dame lord lady father sister brother aunt uncle grandma grandpa granny
captain president minister judge rabbi imam herr frau tante onkel oma opa monsieur madame señor señora signor
signora coach nurse
""")
SUFFIXES = _set("jr sr phd md gmbh ag kg ug se inc ltd llc llp plc corp co bv nv ab oy as sa sas srl spa pty kk")
ORGANISATION_WORDS = _set("""
gmbh ag kg ug inc inc. ltd ltd. llc llp plc corp corp. bv nv ab oy oyj srl pty company group holding holdings
labs lab laboratory laboratories institute institut university universität université college school academy
schule hochschule gymnasium bank sparkasse insurance versicherung society association council committee
ministry department agency authority commission foundation stiftung trust union party club verein orchestra
choir band ensemble theatre theater museum gallery library hospital clinic klinik krankenhaus pharmacy
apotheke hotel hostel trattoria restaurant café cafe bistro bakery bäckerei brewery pub church parish robotics
systems technologies technology software solutions consulting energy airlines airways air railways logistics
shipping motors pharma biotech ventures capital partners studio studios publishing press verlag stadtwerke
rathaus court police army navy fc sc united aquapark gym fitness telecom telekom
""")
PLACE_WORDS = _set("""
street road avenue lane boulevard square plaza alley straße strasse platz allee weg gasse rue via calle ulica
park garden gardens market bridge tower castle palace schloss cathedral church temple harbour harbor port
airport station bahnhof island islands isle mount mountain mountains hill hills valley lake river bay beach
coast cape falls forest desert canyon county district province region village quarter
""")
PLACES = _lines("""
europe, asia, africa, america, north america, south america, antarctica, oceania, scandinavia, afghanistan,
albania, algeria, argentina, armenia, australia, austria, azerbaijan, bangladesh, belarus, belgium, bolivia,
bosnia, botswana, brazil, bulgaria, cambodia, cameroon, canada, chile, china, colombia, costa rica, croatia,
cuba, cyprus, czechia, denmark, ecuador, egypt, england, estonia, ethiopia, finland, france, georgia, germany,
ghana, greece, greenland, guatemala, haiti, hungary, iceland, india, indonesia, iran, iraq, ireland, israel,
italy, jamaica, japan, jordan, kazakhstan, kenya, korea, kosovo, kuwait, laos, latvia, lebanon, libya,
lithuania, luxembourg, madagascar, malawi, malaysia, mali, malta, mexico, moldova, mongolia, montenegro,
morocco, mozambique, myanmar, namibia, nepal, netherlands, new zealand, nicaragua, nigeria, norway, oman,
pakistan, panama, paraguay, peru, philippines, poland, portugal, qatar, romania, russia, rwanda, saudi arabia,
scotland, senegal, serbia, singapore, slovakia, slovenia, somalia, south africa, south korea, spain, sri
lanka, sudan, sweden, switzerland, syria, taiwan, tanzania, thailand, tunisia, turkey, uganda, ukraine, united
kingdom, united states, uruguay, uzbekistan, venezuela, vietnam, wales, yemen, zambia, zimbabwe, california,
texas, florida, bavaria, saxony, catalonia, tuscany, provence, brittany, normandy, amsterdam, ankara, antwerp,
athens, atlanta, auckland, baltimore, bangalore, bangkok, barcelona, basel, beijing, belfast, belgrade,
bergen, berlin, bern, bilbao, birmingham, bogotá, bologna, bonn, bordeaux, boston, brasília, bratislava,
bremen, brisbane, bristol, brno, brussels, bucharest, budapest, buenos aires, cairo, calgary, cambridge, cape
town, cardiff, casablanca, chennai, chicago, cologne, copenhagen, cork, dakar, dallas, delhi, denver, detroit,
dortmund, dresden, dubai, dublin, duisburg, düsseldorf, edinburgh, eindhoven, erfurt, essen, florence,
frankfurt, freiburg, gdańsk, geneva, genoa, ghent, glasgow, gothenburg, granada, graz, hague, halle, hamburg,
hannover, hanoi, havana, heidelberg, helsinki, hong kong, honolulu, houston, innsbruck, istanbul, jakarta,
jerusalem, johannesburg, karlsruhe, kassel, kiel, kigali, kingston, kinshasa, kraków, kyiv, kyoto, köln,
lagos, lahore, lausanne, leeds, leipzig, lille, lima, linz, lisbon, liverpool, ljubljana, london, los angeles,
lucerne, lyon, lübeck, madrid, mainz, malmö, manchester, manila, mannheim, marrakesh, marseille, melbourne,
miami, milan, minsk, montevideo, montpellier, montreal, moscow, mumbai, munich, münchen, münster, nairobi,
nantes, naples, new york, newcastle, nice, nuremberg, nürnberg, osaka, oslo, ottawa, oxford, palermo, paris,
philadelphia, phoenix, porto, portland, potsdam, prague, quebec, quito, reykjavik, riga, rio de janeiro, rome,
rotterdam, saarbrücken, salzburg, san diego, san francisco, santiago, sapporo, sarajevo, seattle, seoul,
seville, shanghai, shenzhen, sofia, stavanger, stockholm, strasbourg, stuttgart, sydney, são paulo, taipei,
tallinn, tbilisi, tehran, tel aviv, tokyo, toronto, toulouse, trieste, trondheim, tunis, turin, ulm, uppsala,
utrecht, valencia, vancouver, venice, verona, vienna, vilnius, warsaw, washington, wellington, wien, wrocław,
wuppertal, würzburg, york, zagreb, zurich, zürich, österreich, schweiz, deutschland, frankreich, italien,
spanien
""")
UNSPACED_PLACES = _set(
    "東京 大阪 京都 名古屋 札幌 福岡 横浜 神戸 広島 仙台 日本"
    " 北京 上海 广州 深圳 杭州 香港 台北 中国 台湾 成都 南京 武汉"
)
PRODUCTS = _lines("""
nokia, samsung, canon, nikon, sony, fairphone, thinkpad, garmin, fritzbox, mikrotik, renault, volkswagen,
toyota, bmw, volvo, skoda, fiat, honda, hyundai, siemens, bosch, philips, lego, playstation, nintendo, xbox,
kobo, ableton, lexoffice, datev, hetzner, ovh, digitalocean, raspberry, arduino, zigbee, home assistant,
google, facebook, tiktok, uber, zed, vs code insiders, airbnb, airflow, alpine, amazon, android, angular,
ansible, anthropic, apache, apollo, argo, argocd, asana, astro, auth0, aws, azure, babel, bash, bitbucket,
bitwarden, bootstrap, bun, cassandra, celery, ceph, chatgpt, chrome, circleci, claude, clickhouse, cloudflare,
cloudfront, cloudwatch, confluence, consul, copilot, couchdb, cursor, cypress, datadog, dbt, debian, deno,
discord, django, docker, dropbox, dynamodb, ec2, ecs, eks, elasticsearch, electron, elixir, envoy, eslint,
etcd, excel, expo, express, fastapi, fastify, fedora, figma, firebase, firefox, flask, flink, fluentd,
flutter, gcp, gemini, gerrit, git, github, gitlab, gitea, gmail, golang, google drive, google maps, gpt-4,
gradle, grafana, graphql, grpc, gunicorn, hadoop, haproxy, haskell, helm, heroku, hibernate, homebrew, hugging
face, influxdb, instagram, intellij, ios, ipad, iphone, istio, jaeger, java, javascript, jenkins, jest, jira,
jupyter, k3s, k8s, kafka, keycloak, kibana, kindle, kotlin, kubernetes, lambda, langchain, laravel, linear,
linkedin, linux, llama, logstash, loki, lua, macbook, macos, mailchimp, mailgun, mariadb, matplotlib, maven,
memcached, microsoft teams, minio, mongodb, mysql, nats, neo4j, netflix, netlify, next.js, nextcloud, nginx,
node.js, nomad, notion, npm, numpy, nuxt, oauth, obsidian, okta, ollama, openai, opensearch, openshift,
opentelemetry, oracle, outlook, pagerduty, pandas, paypal, perl, pgbouncer, pgvector, photoshop, php,
playwright, podman, postgres, postgresql, posthog, postman, powerpoint, prisma, prometheus, pulumi, pycharm,
pydantic, pypi, pytest, python, pytorch, rabbitmq, rails, raspberry pi, react, react native, redis, redshift,
ruby, rust, s3, salesforce, scala, selenium, sentry, shopify, slack, snowflake, snyk, solr, sonarqube, spark,
splunk, spotify, spring, spring boot, sqlalchemy, sqlite, sqs, storybook, stripe, supabase, svelte, swagger,
swift, tailwind, teams, telegram, temporal, tensorflow, terraform, tesla, thunderbird, traefik, trello,
twilio, typescript, ubuntu, valkey, vault, vercel, vim, neovim, emacs, visual studio code, vite, vitest, vs
code, vscode, vue, webpack, whatsapp, wikipedia, windows, word, wordpress, xcode, youtube, zapier, zendesk,
zookeeper, zoom
""")
# Not to be taken for the program when a sentence writes them small.
SMALL_IS_A_WORD = _lines("""
amazon, apache, apollo, astro, babel, bash, bootstrap, consul, cursor, cypress, electron, elixir, express,
envoy, flask, gemini, helm, lambda, linear, notion, nomad, oracle, prisma, rails, react, ruby, rust, scala,
sentry, slack, snowflake, spark, splunk, spring, stripe, swift, teams, temporal, vault, windows, word, zoom,
java, llama, perl, spotify, telegram, celery, expo, excel, outlook, loki, argo, copilot, git, npm, python,
docker, tesla, spring boot, chrome, jest, bun, aws
""")
AMBIGUOUS_NAMES = _set(
    "will may mark rose grace art bill frank ray june april august drew grant chase rob pat sue max ken"
)
GIVEN_NAMES = AMBIGUOUS_NAMES | _set("""
aaron abdul abigail adam adele adrian agnes ahmed aisha alan albert alejandro aleksandra aleksandr alessandro
alex alexander alexandra alexis alfred ali alice alicia alina alison amanda amber amelia amina amir amy ana
anastasia anders andre andrea andreas andrei andrew andy angela anika anil anita anja anjali ann anna anne
annika anthony antoine anton antonia antonio anya ariel arjun arne arthur artur asha ashley astrid audrey axel
ayesha barbara beatrice beatriz ben benjamin bernd bernard beth betty bianca bill birgit björn bob boris
brandon brenda brian bruno bryan camila carl carla carlos carmen carol carolina caroline catherine cecilia
chandra charles charlie charlotte chen chiara chloe chris christian christina christine christoph christopher
claire clara claudia claus cleo clemens colin connor cora craig cristina cynthia daniel daniela dave david
deborah denis dennis derek diana diego dieter dimitri dina dirk dmitri dmitry dominik donald donna dora doris
dorothy douglas dylan eddie edgar edith eduardo edward ela elena eli elias elif elisa elisabeth elizabeth ella
ellen emil emilia emily emma emre enrico eric erica erik erika ernst esther eugen eva evan evelyn ewan farid
fatima felicia felix femke fernando finn fiona florian frances francesca francesco francis francisco frank
franz fred frederic frida friedrich fritz gabriel gabriela gary george georg gerald gerd gerhard giovanni
giulia gisela gloria grace greg gregor greta guido gustav hana hannah hannes hans harald harold harry hassan
heather hector heidi heike heinz helen helena helga hendrik henri henrik henry herbert hilde hiroshi holger
horst hugo ian ibrahim ida igor ilse imani ines inga inge ingrid irene irina iris isaac isabel isabella ivan
ivana jack jacob jacques jakob james jamie jan jana jane janet janina jasmin jasmine jason javier jean jeff
jeffrey jelena jennifer jens jeremy jerome jerry jessica jim joan joana joanna joao joe joel johan johanna
johannes john johnny jonas jonathan joost jordan jorge josé josef joseph joshua juan judith julia julian
juliana julie jun jürgen jutta kai kamal karen karim karin karl karla karolina kate katharina katherine
kathrin katja katrin kayla keiko keith ken kenji kenneth kerstin kevin khaled kim kira klaus klara konrad
kristin kristina kurt kwame kyle lara larry lars laura lauren laurent lea leah leila lena leo leon leonard
leonie leyla li liam lilian lily linda linus lisa liu livia liz lorenz lothar louis louise luca lucas lucia
lucy ludwig luis luisa lukas luke luna lydia magda magdalena maja malik manuel manuela mara marc marcel marco
marcus margaret maria mariam mariana marie marina mario marion marius markus marlene marta martha martin
martina mary mateo mathias matilda matt matteo matthew matthias maurice max maxim maya megan mehmet mei mel
melanie melissa mia michael michaela michal michelle miguel mikael mike mikhail mila milan milena miriam
mohamed mohammed moises monica monika moritz murat nadia nadine nadja naomi natalia natalie natasha nathan
neha nicholas nick nico nicolas nicole niklas nikolai nils nina noah nora norbert nour olaf ole oleg olga
oliver olivia omar oscar oskar otto pablo pamela paolo patricia patrick paul paula paulo pavel pedro peggy
peter petra phil philip philipp pia pierre piotr priya priyanka rachel rafael rahul raj rajesh ralf ralph
ramona ramesh raquel rashid raul rebecca regina reiner renate rené ricardo richard rita rob robert roberta
roberto robin rodrigo roger roland rolf roman ron rosa rosalie rose rosie ross roxana ruben rudolf rupert ruth
ryan sabine sabrina sally sam samantha samir samuel sandra sanjay sara sarah sascha scott sean sebastian selma
serena sergei sergio sharon shirin sigrid silke silvia simon simone sofia sonia sonja sophia sophie stefan
stefanie stella stephan stephanie stephen steve steven stuart sunita susan susanne suzanne svetlana sven
svenja sylvia tamara tanja tara tariq tatiana ted teresa tess thea theo theresa thomas thorsten tim timo
timothy tina tobias todd tom tomas tomasz tony torsten tracy ulrich ulrike uma ursula ute uwe vadim valentin
valentina valeria vanessa vera veronica veronika victor victoria vijay viktor viktoria vincent viola virginia
vivian vladimir volker walter wanda wei wendy werner wilhelm will william wolfgang xavier yan yana yara yasmin
yoko yuki yuri yusuf yvonne zara zeynep zoe zoltan александр алексей алина анастасия андрей анна антон артём
борис вадим валентина вера виктор виктория владимир галина григорий даниил дарья денис дмитрий евгений
екатерина елена иван игорь ирина кирилл константин ксения лариса лев любовь людмила максим марина мария михаил
надежда наталья никита николай оксана олег ольга павел пётр полина роман светлана сергей степан татьяна фёдор
юлия юрий яна
""")
# What only people do: who does it, with a capital letter and no other explanation, is a person.
PERSON_VERBS = _set("""
said says asked asks wants wanted prefers preferred thinks thought told tells wrote writes suggested suggests
promised promises agreed agrees likes liked loves loved hates hated lives lived moved studies studied
explained explains mentioned mentions decided decides reviewed reviews joined joins maintains leads manages
believes hopes insists insisted complained complains recommends recommended bought buys sold cooks drinks eats
drives teaches taught learns speaks swapped booked met married visited visits prescribed flies swims pays paid
noticed owns plays lost asked-for
""")
# What else is said of people, and of software just as well: evidence only for a given name that is also a word.
WEAK_VERBS = _set("""
is was has had will would can could must should does did never always takes took brings brought uses used
sends sent needs got gets found fixes fixed works worked knows knew keeps left
""")
BEFORE_PERSON = _set("ask asked tell told met meet thank ping remind invite hired remember")
WORKS = _set("work works worked working job account membership member studies studied intern internship employed")
CALLED = _set("called named nicknamed")
CONNECTORS = _set("of de del della di da du von van der den ten la le el al bin ibn & the und")
UNITS = _set("percent % s ms kg km m h hours days minutes seconds weeks months years euros euro times gb mb uhr tage")
NUMBERED = _set("issue issues pr prs mr ticket tickets bug http status code figure section chapter table step page")
CONTRACTIONS = ("'m", "'ve", "'ll", "'d", "'re", "n't")
ABBREVIATIONS = _set("dr mr mrs ms prof st sr jr nr vs ca ing bzw inc ltd")
RAISES = _set("raise raises raised throw throws threw thrown catch catches")
NO_NAMES = _set("""
mondays tuesdays wednesdays thursdays fridays saturdays sundays issue ticket pr openapi wi-fi wifi lithuanian
slovak icelandic true false none null optional yes no mandatory admin the mum mom dad i monday tuesday
wednesday thursday friday saturday sunday mon tue tues wed thu thur thurs fri sat sun january february march
april may june july august september october november december jan feb mar apr jun jul aug sep sept oct nov
dec english german french spanish italian russian chinese japanese polish portuguese dutch swedish norwegian
danish finnish turkish arabic hebrew greek latin czech hungarian romanian ukrainian korean hindi british
american european australian canadian african asian indian swiss austrian irish scottish welsh belgian mexican
brazilian christmas easter ramadan halloween thanksgiving god internet web api ok am pm utc todo note warning
error figure section chapter table version montag dienstag mittwoch donnerstag freitag samstag sonntag ostern
weihnachten new year
""")
GERMAN = _set("""
der die das und ist nicht mit den dem ein eine einen für auf wir ich im zum zur beim hat sind wird wurde auch
zu von bei nach vor aus über unter nur oder aber wenn als wie kein keine ab bis sich man werden seit muss darf
nie immer dann es
""")
# Without the ending that declines.
RUSSIAN_PLACES = _set("""
москв петербург самар казан новосибирск екатеринбург сочи киев минск росси украин беларус грузи ереван тбилиси
алматы
""")
MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january jan januar janvier января",
            "february feb februar février февраля",
            "march mar märz mars марта",
            "april apr avril апреля",
            "may mai мая",
            "june jun juni juin июня",
            "july jul juli juillet июля",
            "august aug août августа",
            "september sep sept septembre сентября",
            "october oct oktober octobre октября",
            "november nov novembre ноября",
            "december dec dezember décembre декабря",
        ),
        1,
    )
    for name in names.split()
}
