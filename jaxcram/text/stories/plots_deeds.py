"""Plots about things, animals, weather and work; see `plots` for the format."""

# ruff: noqa: E501

PLOTS = {
    "lost": """
$hero {had|owned} a $mat $thing, {a {present|gift} from $his $kin|and {loved|treasured} it {dearly|above all else}}[, and {often|always} $used it $usetail].
| $his {$kin had given|favorite thing was} {$him a $mat $thing|a $mat $thing}, {which|and} {$he {kept|put}|was {kept|stored}} $kept.
$once, {it|the $thing} {was gone|had {vanished|disappeared}}! $hero {turned {out|over} every {drawer|pillow}|$looked {$kept|everywhere}}, but {found|saw} {nothing|only {dust|crumbs}}.
| {But|Then} $once, {coming home|on the way} from the $place, $he {put|reached} a hand in $his {pocket|bag}: {empty|nothing}! The $thing {was lost|must have fallen out}.
$tears. "{Where did|When did} you {last {have|see}|leave} it?" $asked {$his $kin|$his friend $pal}.
{$he|$hero and $pal} {$looked|searched} {at the $place|$path|{$hide|in the {garden|kitchen}}}, {even|and} under {every|each} {leaf|stone|mat}, $allday.
?~ {$neighbor, the $job,|The $job} {had not seen it|shook $nhis head}, {but|yet} {lent|gave} them a {rake|lamp|sieve}.
$suddenly {something $shone|the {$light light|sun} {fell|glanced} on something} {in the {grass|$ground}|$hide}. {It was|There lay} the $mat $thing!
| {It was|In the end it was} the $fur $animal that {found|had} it: {there|in {its bed|$den}} {lay|was} the $mat $thing, {quite|perfectly} {safe|unharmed}.
$joy. {$hero|$he} {cleaned|wiped|dried} it {$quietly|on $his sleeve} and {never again left it behind|did not let it out of $his sight}.
| {From that day|After that}, $hero {kept|tied} the $thing {on a string|$kept|close by}, {and $used it $usetail|and checked it every {hour|night}}.
""",
    "storm": """
$once, {black|dark} clouds {gathered|rolled} {over|above} $town, and $wind {began to {howl|roar}|grew {stronger|wild}}.
| "{A storm is coming|Look at that sky|I smell rain}," $said $his $kin, {closing the shutters|looking {up|out}|pulling in the washing}.
$hero {was {at|near} the $place|had {gone|run} to {the $place|fetch the $mat $thing}} when the first {drops|thunder} {fell|came}.
{Rain|Hail} {beat|drummed} {on|against} the {roof|windows|walls}, {lightning {flashed|split the sky}|thunder {cracked|rumbled}}, and {branches|tiles|buckets} {flew|crashed} {by|past}.
{Then|In the middle of it} {$he|$hero} heard {a cry|a small sound}: the $fur $animal was {trapped|stuck|shivering} $hide.
| {Then|$suddenly} {somebody|a voice} {called|shouted} for help. {It was|There was} $pal, {caught|stranded} {by $water|$hide}!
{Without thinking|At once}, $he {$went|ran} {out|into the rain}, {soaked|drenched} {to the skin|in a moment}, {clutching|holding} {the fence|a rope|$his hat}.
? "{Hold on|I am coming|Don't let go}!" $cried $hero, but the {wind|storm} {tore|carried} the words away.
{Pulling|Step by step, pulling} {hard|with both hands}, $he {brought|got} {both of them|them both} {home|indoors|under a roof}, where {a fire {was burning|crackled}|$his $kin {was waiting|waited}}.
{They {drank|sipped}|Soon they were drinking} $drink, {wrapped|rolled up} in {blankets|towels|the quilt} {until|while} the {storm|thunder} {passed|faded|grumbled away}.
{By morning|At dawn}, the {air|sky} was {clear|clean|blue}, {and|but} {half the roof|the old {fence|oak}|every flower} {was {gone|broken|ruined}|lay {broken|flat}}.
| $nextday, {the whole $village|everybody} {came|helped} to {mend|repair} the {roofs|walls|boats}, {and $hero {carried nails|held the ladder}|$neighbor {first of all|bringing $wares}}.
""",
    "animal": """
$once, $hero {found|discovered|came upon} a $fur $animal $hide{.|, {hurt|hungry|trembling|wet and cold}.}
| $once, {on the way home|near the $place}, $hero heard {something|a sound} $hide. {A $fur $animal {lay there|looked {up|out}}|It was a $fur $animal}.
It had {hurt|injured} {a leg|its {foot|side}}, and it $bleated {$sadly|weakly} {when|as} $hero {came|bent} {near|closer|down}.
"{Don't be afraid|Easy now|Hush|Poor thing}," $said $hero. "I {won't|will not} {hurt|harm} you."
$he {wrapped|lifted} {it|the $animal} {in $his {coat|scarf|shirt}|$quietly} and {carried|took} it {home|to $his $kin|to $neighbor, the $job}.
"{It needs {rest|warmth} and $feed|Give it {water|time} and some $feed|Let it sleep by the {stove|fire}}," $said {$his $kin|$neighbor}.
| {$his $kin|$pal} {brought|found} {a box|an old basket} {with {straw|rags}|lined with wool}, and {they|together they} {fed|offered} it $feed.
? {Every {morning|night}|Each day}, $hero {changed the bandage|brought $feed|sat {beside|with} it}, and {little by little|day by day} it {grew|became} {strong|stronger|tame}.
?~ $he {called|named} {it|the $animal} {Button|Pepper|Captain|Thimble|Biscuit|Duchess|Pickle}, {because|for} it {liked|loved} $habit_a.
$finally, the $animal $trotted {about|around} {the {room|yard|kitchen}|without help}. It was {time|well enough} to {go {home|back}|return} to $den.
{$hero {opened|unlatched} the door|At the $place $he set it down}. The $animal {looked back|$bleated} once and $trotted {away|off|toward $den}.
| {But|Yet} {it|the $animal} {did not want to leave|would not go}. It $trotted {after $him|back to $his feet} and {stayed|lives there still}.
? {Often|Sometimes}, {at {dusk|dawn}|in $season}, $hero {sees|hears} a $animal {near|by} the $place and {waves|leaves some $feed}.
""",
    "cake": """
$hero {decided|wanted} to {make|cook} {a|the best} $dish for {$his $kin's birthday|$pal, who was {ill|coming to tea}|the {fair|feast} {at|in} $town}.
| {It was|Tomorrow was} $his $kin's birthday, and $hero {planned|meant} to {make|surprise $khim with} a $dish.
$he {{tied|put} on an apron|washed $his hands|rolled up $his sleeves}, {opened|found} the {recipe|cookbook}, and {measured|weighed|chopped} the $stuff {$quietly|with {floury|sticky} fingers}.
?~ {Flour|Dust} {flew|rose} {everywhere|like snow}, and the $fur $animal {sneezed|licked the spoon|hid under the table}.
{Something|It} {smelled|looked} {odd|strange}. {$hero|$he} {tasted|tried} a {crumb|spoonful}: it had $wrong!
| {But|Alas}, {in $his hurry|while dreaming}, $he {had put in|used} $wrong. {Smoke|A terrible smell} {came|poured} from the $oven!
"{Oh no|It is ruined|What a mess}!" $cried $hero, {and|so that} {$pal|$his $kin} came running.
{"Never mind,"|"Even cooks make mistakes,"|"It is not so bad,"} $said {$his $kin|$pal, $his friend}. "{Let us|We can|We will} {begin again|try once more} {together|with a clear head}."
{They|The two of them} {stirred|beat|mixed} {a new one|another}, {reading|checking} {each|every} {line|spoonful} {aloud|twice}, and {watched|guarded} the $oven {like {hawks|cats}|without blinking}.
{This time|Now} the $dish {was|came out} {golden|perfect|a little crooked}, and {they|$hero} {covered|served} it with $saved.
"{It is|This is} the {best|finest} $dish {I ever ate|in $town}," $said $his $kin, {taking|asking for} {another|a second} {piece|helping}.
| {As for|And what of} the first one? {it was {fed|given} to the {pigs|hens}|even the $animal {refused|would not touch} it}.
""",
    "race": """
{Every|Each} {year|$season}, {the {children|boys and girls} of $town|all the children} {held|ran} a {great|} race {from|past} the $place {to|as far as} $water.
| {The race|A race} {around|through} $town {was|would be} {held|run} {on Saturday|at noon|in $season}, and {first prize|the prize} was a $mat $thing.
$hero {trained|practiced} {hard|$allday}, {running|racing} $path {before {breakfast|school}|with the $fur $animal}.
~ "{You {can't|will never} beat me|I always win|Last one home is a {snail|turnip}}!" {laughed|boasted} $pal.
{"Ready, steady, go!" And off|A {bell rang|whistle blew|drum sounded}, and {off|away}} they {went|flew|dashed}, {kicking up {dust|stones}|over the {$ground|grass}}!
{At first|For a while} {$pal|a tall boy} {led|was ahead}, but {$hero|slowly $hero} {drew|came} {closer|near}, {panting|arms pumping|breathing hard}.
{Then|$suddenly}, {near|by} the $place, $pal {stumbled|slipped|tripped} {and fell|on the $ground|over a root}{.|, {crying out|holding $phis {knee|ankle}}.}
$hero {could have won|saw the {ribbon|finish} ahead}, but {stopped and {helped|pulled}|turned back to {help|pull}} $pal {up|to $phis feet}.
| {What should $he do?|$hero looked ahead, then back.} {A prize|Winning} {can wait|is nothing}, $he {thought|decided}, and {ran back|took $pal by the arm}.
{They|The two of them} {crossed|reached} the line {together|arm in arm|last of all}, {and|while} {the crowd|everybody} {cheered|clapped} {loudest|for them|wildly}.
"{You {gave up|lost} the prize for me|Why did you stop}?" $asked $pal. "{A friend is {better|worth more}|You would do the same}," $said $hero.
| {Later|In the end} {$neighbor, the $job,|the judge} {gave|handed} {them both|each of them} {a {medal|ribbon}|$treat}.
""",
    "build": """
$hero and $pal {decided|made up their minds|wanted} to build a $work $where, for $purpose.
| "{Let us|We should|Why not} build a $work," $said $pal. "{It|That} would be {$good|perfect} for $purpose." {$hero {agreed|nodded}|So they began}.
{First|To begin with} they {drew|sketched} a plan {in {chalk|pencil}|on {paper|a box lid}}, then {gathered|collected|begged} $planks {from {sheds|the $place}|and {borrowed|found} $tools}.
{They {sawed|hammered|measured|dug}|There was {sawing|hammering|digging}} $allday, {hitting {their|a few} thumbs|{dropping|losing} things|with {sore|blistered} hands}.
| $pal {held|steadied} {things|each piece} while $hero {worked|hammered} {with $tools|$quietly}, {and|then} they {changed|swapped} {places|jobs}.
{The first {try|one}|At first it} {leaned|wobbled|creaked} and {then {fell|came} down|collapsed with a crash}. 
? "{We {should|must} give up|It will never {stand|work}}," $said $pal $sadly. "{Not yet|One more time|Nonsense}," $said $hero.
{$neighbor, the $job,|$his $kin} {stopped|came by} and {showed|taught} them {a {trick|strong knot}|how to {brace|level} it}: "{Start from the {bottom|ground}|{Measure|Think} twice, {cut|build} once}."
$finally, the $work {stood {$where|firm and straight}|was {done|ready}}, {a bit {crooked|lopsided} but {strong|theirs}|and {they|both} {painted it {blue|green|red}|tied a flag to it}}.
{$joy.|They {sat|stood} {in|by|before} it {eating|sharing} {plums|bread and cheese|sandwiches}, {tired|proud} and {dirty|happy}.}
""",
    "garden": """
{In {April|March}|Early {that|one} year}, $hero planted a $plant {by|near} the {wall|gate|back door}. It was {only|just} $seedling.
| $his $kin gave $hero {a {pot|paper bag}|a corner of the garden} and $seedling. "{It is|This is} a $plant," $khe $said. "{Be patient|Look after it}."
{Every|Each} {morning|day} $he {watered|weeded|watched} it[, {singing|talking} {to it |}$quietly], {but|and} {for {weeks|days}|at first} {nothing {happened|grew}|it hardly {moved|changed}}.
? "{Nothing will come of it|It is {dead|asleep}}," {laughed|$said} $pal. "{Wait and see|Roots come first}," $said $hero.
{Then|Once} {{slugs|snails|beetles} {came|feasted} {in the night|one evening}, and {half|most of} the leaves were {eaten|torn|full of holes}|{frost|a dry week|a gale} {came|followed}, and {half|most of} the leaves {drooped|turned brown|hung limp}}.
$tears, but $he {built|made} {a {little|} fence|a cover} {of {sticks|twigs}|from {old {glass|sacks}|straw}} and {tied|propped} {it|the stem} {up|to a stake}.
"{Growing|A garden} {takes|needs} {time|sun, rain and {luck|love}}," $said {$neighbor, the $job|$his $kin}.
{Sun {followed|came after} rain|Rain followed sun}, {{bees|ladybirds|worms} {did their {work|part}|came}|{the days|the nights} {grew warm|went by}}, and {leaf by leaf|slowly} the $plant {climbed {higher|up and up}|grew {stronger|tall}|stretched {upward|itself}}.
{By {late|} summer|When {August|summer} came}, it was $grown, and {people|neighbors} {stopped|came} to {look|stare|admire it}.
{$hero|$he} {picked|cut|saved} {some|the best} for {$pal|$neighbor|$his $kin} and {kept|dried} {a few seeds|one seed} {for {next|another} year|in an envelope}.
""",
    "stars": """
{One|It was a} {clear|still} {night|evening}{, | in $season, and }$hero could not sleep. {The {moon|stars}|A {big|round} moon} {shone|looked} {through|in at} the window.
{$quietly,|So} $he {crept|tiptoed|climbed} {out|up} {to|onto} the {roof|hill|balcony} {in $his {nightshirt|slippers}|with {a blanket|the $mat $thing}}.
{There|To $his surprise there} {sat|was} $his $kin, {wrapped in a shawl|looking {up|at the sky}|sipping $drink}. "{Can't you sleep|You too}?" $khe $asked.
"{How many stars are there|How far away are the stars|Who lit them}?" $asked $hero. "{More than {grains of sand|leaves in the {wood|forest}}|Farther than {ships|birds} can {go|fly}}," $said $his $kin.
{Together they|They} {found|named} {the Bear|the Plough|the Hunter|the Swan}, {then|and} {the {North|Evening} Star|the Seven Sisters|the Milky Way}, {pale|bright} {over|above} {the $place|$water|the roofs}.
| $khe {pointed out|showed $him} {a planet|the {Bear|Hunter|Swan}}, {and {told|explained} how {sailors|travelers} {find|steer} {home|their way} by it|shining over the $place}.
?~ {Somewhere|Far off} {an owl|a fox|a train} {called|could be heard}, {then|and} {the night|all} was {silent|still} again.
$suddenly a {shooting|falling} star {crossed|streaked|slid} {down |}{the sky|the dark}. "{Make a wish|Wish|Quick}!" {whispered|$said} $his $kin.
$hero {closed|shut} $his eyes and {wished for|thought of} {a $giftmat $gift|$pal, who was {ill|away}|a {snowy|sunny} morning|nothing at all, {being|for $he was} {content|happy}}.
{When|As} the {east|sky} {turned|grew} {gray|pink|pale}, $hero {was {fast |}asleep|slept} {against|on} $his $kin's shoulder.
| {Nobody|No one} {knows|ever learned} what {$he wished|the wish was}, {but|yet} {$nextday {the sun|$pal} came back|it {came|may have come} true}.
""",
    "journey": """
$once, $hero {set {out|off}|left $town} {to {visit|see}|for a visit to} $his $kin, who {lived|was waiting} {beyond|on the far side of} {the hills|the forest|$water}.
| {"Take this {|over }to|"Carry this to} $neighbor, the $job," $said $his $kin, {giving|handing} $hero a $mat $thing. {It was a long way|The road was long}.
{In|Into} $his {bag|knapsack} $he {put|packed} {bread and cheese|{two|three} apples|a {bottle|flask} of $drink}, {a {map|rope|blanket}|warm socks}, and the $mat $thing.
$he $went $path, {whistling|counting {steps|milestones}|past $detail}, {while|as} $weather.
{At a crossroads|Where the road {split|forked}} $he {did not know|wondered} which way to {go|turn|choose}.
| {By|Before} {noon|evening}, {fog|mist} {came down|hid the {path|road}}, and $hero {was lost|could not see $his {boots|own hand}}.
{$suddenly a|A} $fur $animal {$trotted|came} {by|out of the {bushes|grass}} and $bleated{.|, as if to say, "{Follow me|This way}."}
| {An old {woman|man}|A {peddler|soldier|shepherd}} {with a {cart|stick|sack}} {sat|rested} {there|by the road}. "{Keep|Go} {left|right} {at|by} the $place," {came|was} the answer.
? $he {shared|divided} {the {last|} {bread|apple}|$his lunch}, {for|since} {kindness|good company} {weighs nothing|makes a road shorter}.
{$he|$hero} {crossed|waded through} {a {stream|bog}|a field of thistles}, {climbed|went over} {a {wall|stile|steep bank}}, and {rested|slept} {in a {haystack|barn}|under a {pine|cart}}.
$finally, {a light|a {chimney|window}} {appeared|shone} {ahead|in the {dusk|distance}}. {The door opened|Somebody waved}. "{You came|There you are|Welcome|Come in}!"
""",
    "present": """
{It was|Tomorrow would be} the birthday of $pal, $his {best |}friend, and $hero {had no|did not have a} {present|gift} {to give|yet}{.|, nor any money.}
| $hero {wanted|wished} to give $pal {something {$good|special}|a {$good|special} {present|gift}}, {but|yet} $his {purse|money box} was {empty|almost empty}.
$he {stopped {at|outside}|looked in at|pressed $his nose to the glass of} {the {toy|gift|secondhand} shop|a {shop|shop window}}, where {a $giftmat $gift|the $gift {that |}$pal {wanted|dreamed of}} {stood|lay} {among {ribbons|dolls|boxes}|behind the glass}.
? "{The best {gifts|presents} are {made|not bought}|Give what you {love|can make}}," $said $his $kin.
{$he|So $hero} {took|brought out} the $mat $thing, {$his own|which $he $used $usetail}, and {polished|mended|cleaned} {it|every corner} {until it looked {almost |}new|$allday|with a {soft rag|drop of oil}}.
{It was {hard|not easy}|It hurt {a little|}|$he found it {hard|strange}} to {part with it|give it away}, {for|because} $he {had {kept|owned} it {for years|all $his life}|loved it {dearly|so}}.
{At|During} the party {there were|came} {cakes|candles|games|balloons} and {other|big|shiny} {presents|parcels}, and $hero {felt|was} {shy|nervous|uneasy}.
{But|Then} $pal {unwrapped|opened} {the|$hero's} {parcel|box} and {stopped|gasped|stared}. "{Your|It's your} $thing!" $phe $said. "{You love it|It is yours}."
"{That is why|Now it is yours}," $said $hero $quietly{.|, {looking at|studying} $his shoes.}
$pal {hugged|thanked} $him and {said|promised}, "{We will|Let us} {share|{take|have} turns with} it," {and they did|and {truly |}meant it}.
""",
}
