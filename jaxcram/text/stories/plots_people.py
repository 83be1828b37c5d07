"""Plots about people: quarrels, secrets, letters, fears, lessons; see `plots` for the format."""

# ruff: noqa: E501

PLOTS = {
    "quarrel": """
$hero and $pal were {best|old|close} friends, {but|yet|until} {$once they|$once the two} {quarreled|argued|fought} {about|over} $quarrel.
| {$once|In the middle of a game}, $hero and {$his friend|a friend named} $pal {had a quarrel|fell out|began to argue} over $quarrel.
It {started|began} with $spark[, as {such|these} things do], and {soon|then} {both were shouting|neither would listen|{doors|gates|lids} {were slammed|banged}}.
| {There was|It was only} $spark, but {each|both of them} {blamed the other|felt {hurt|insulted}|grew $cross}.
? "{You {never|don't} listen|It was your fault|I will never {play|speak} with you again|You are not fair}!" $cried $pal[, {stamping a foot|red in the face|turning away}].
$allday they {did not speak|kept apart|walked on {opposite|different} sides of the {street|lane}}, and $hero {felt|was} $very $sad.
| $hero {sat|stayed} {alone|by the window} $allday, {too|much too} {proud|$cross} to {say sorry|knock at $pal's door|smile}. $tears.
? "{Being right|Winning} is {not worth much|a poor thing} {without a friend|if you are alone}, $dear," $said $his $kin.
| "{Go and {talk|speak} to|Be the first to forgive} $pal," $said $his $kin. "{Pride is {a cold blanket|poor company}|{A friend|Friendship} is worth more than $quarrel}."
$nextday, $hero {took|brought|carried} {a $mat $thing|$treat|{two|three} {pears|buns|oranges}} {to|over to} $pal's {door|house|gate} and {said|whispered}, "{I am|I'm} sorry[ for {what I said|being so stubborn}]."
| $finally, {the two|they} met {by chance|in the rain} {at|near} the $place. "{I was {wrong|foolish|unkind}|I have missed you}," $said $hero $quietly.
"{So am I|I am sorry too|I missed you as well|Let us forget it}," $said $pal, and {they|the two of them} {shook hands|hugged|began to {laugh|giggle}}.
| $pal {opened the door|looked down|was silent for a while} and {then|at last} {smiled|laughed}. "{Friends {again|still}|Let us never do that again}," $said $phe.
""",
    "secret": """
$hero had a secret: {under|behind} {a loose {board|brick|stone}|the old {wall|shed}} {near|by} the $place, $he {kept|hid} a $mat $thing.
| {Nobody|No one} {knew|guessed} that $hero {had hidden|kept} a $mat $thing $hide.
? {Every|Each} {evening|morning|Sunday} $he {crept|tiptoed|slipped} {out|there} to {look at|touch|admire} it[, {holding $his breath|alone|barefoot}].
$once, $pal {followed|noticed|saw} $him and $asked, "What {are you hiding|do you have there|is in your hands}?"
| {But|Then} {$once|$suddenly} a {voice|shadow} {made|startled} $him jump. It was $pal, {{peeping|peering} round the corner|with {wide|round} eyes}.
$hero {turned red|bit $his lip|said nothing}, for it is {hard|difficult} to {keep|share} a secret.
| "{Can you|Will you} keep a secret?" $asked $hero. $pal {nodded|crossed $phis heart|{promised|swore} not to tell}.
{So|Then|$quietly,} $he {showed|handed} $pal the $thing, {and it $shone in the $light light|which $shone in $phis hands}.
"{It belonged to|It came from|It was a gift from} my {grandfather|great-aunt|cousin in the city}," $said $hero. "{And|Only,|You see,} {I was {afraid|scared} of {losing it|thieves}|nobody else {knows|has seen it}}."
? $pal {did not laugh|listened $quietly|thought for a moment}. "{Then|Now} I will {tell|show} you {my secret too|mine}," $phe $said, and {took out|drew out} a $giftmat $gift.
{After that|From that day}, the {secret|$mat $thing} {{belonged to|was kept by} {both of them|the two of them}|had two {keepers|guards}}, and {that {made|felt}|it was} {twice as {good|sweet}|much better}.
| {A secret shared|The secret}, $hero {found|discovered}, {was {lighter|warmer} than {one kept alone|a lonely one}|could make a friend}.
""",
    "letter": """
$once, {the {postman|mail boat|mail cart} brought|there came} a letter {for|addressed to} $hero[, with a {foreign|blue|crooked|torn} stamp].
| A letter {lay|was waiting} {on the {mat|table|step}} {for $hero|with {$hero's|the $child's} name on it}.
It {was|had come} from $pal, {who had {moved|sailed|gone} {far away|across the mountains|to the city}|$his {cousin|pen friend|old neighbor}}.
$hero {opened {it|the envelope}|tore {it|the envelope} open} $quickly and {read|spelled out} {each|every} {word|line} {twice|aloud|by the window}.
| $his hands {shook|trembled} {as|while} $he {unfolded|read} the {paper|thin pages}.
"{Here|In this place} {it is {cold|lonely|strange}|we have {no hills|a {parrot|stove|piano}}|I {think of you|have a new school}}," $pal {wrote|had written}. "{And|But} I {miss|often remember} {the $place|our games|$town}."
?~ {Inside|Between the pages} {was|lay} a {pressed|dried} {flower|leaf|feather}[, {thin|pale} as {paper|tissue}].
$hero {sat down|took a pen|found {paper|ink}} {at the table|at once} and {wrote|began} {an answer|a reply} about {the $animal|$season|the {$place|weather}} and {the $thing|$his $kin|$sound}.
| $allday $he {wrote|scribbled} {about|of} {$season in $town|the $place|the $fur $animal}, {blotting|crossing out} {every third word|the sad parts}.
{With the {letter|reply|answer}|In the same parcel} $he {packed|sent|put} a $mat $thing, {wrapped|tied} in {string|brown paper|a handkerchief}.
? $nextday, $he {waited|watched} {at|by} the {gate|window} for {the post|an answer}.
{At last|Three weeks later|In the end}, {an answer came|there was a reply}: "{I {use|keep|love} the $thing every day|I am coming {home|to visit}|The $thing sits {by my bed|on my desk}}!"
""",
    "fear": """
$hero was {{not afraid of much|brave enough}, but|a bold $child, yet} {there was one thing|one thing} $he {could not bear|dreaded}: $fear.
| {More than anything|Above all}, $hero was {afraid|terrified|scared} of $fear.
? {Other|The other} children {teased|laughed at} $him, {though|but} $pal {never did|did not|held $his hand}.
$once, $his $kin {sent|asked} $him to {go to|fetch {a jar|a rope|something} from} $cellar.
| {Then|But} $once, the $animal {ran|vanished|strayed} into $cellar, and {someone had to go|only $hero {heard|saw} it}.
$his knees {shook|knocked|turned to jelly} and $his {mouth|throat} {was|went} dry.
| {At the edge|At the last moment|Halfway there} $he {stopped|froze|stood still}, {listening|breathing hard|counting to ten}.
~ "{Being brave|Courage} {means|is} {being $scared and going anyway|taking one more step}," $said {$pal|$his $kin}. "{Take {this|it slowly}|Here}, {you have|there is} $charm."
| "{I will come with you|You need only $charm|One step at a time}," $said $pal {$quietly|$gladly}.
{So|Step by step,|With $charm,} $he {went|crept|tiptoed} {on|forward|in}{, {closer and closer|farther and farther}|, {whispering|humming} a tune}, until $he {saw|discovered|found} {what it was|the truth}.
It was {only|nothing but|just} $truth! {$joy|$hero {blinked|sighed|laughed out loud}}.
{"Is that all?" $cried $hero.|"I did it!" $cried $hero. "I {really|truly} did it!"} 
After that, $hero {no longer|never again|hardly ever} {feared|dreaded|minded} $fear{.|, or {only|just} a little.}
""",
    "moving": """
$hero {was moving|had to move} {house|to a new home}, and {$his things|the {cups|books|chairs}} {were|had been} packed {in|into} {boxes|crates|trunks}.
| $once, {a wagon|a van} {stood|stopped} {outside|at the gate}: $hero and $his $kin {{were moving|had moved} to|had {arrived|come to live} in} $town.
The {new|strange} house {smelled of {paint|dust|soap}|had {creaking stairs|bare floors|no curtains}}, and $hero {felt|was} $very $sad.
| {Nothing|Not one thing} {was|seemed} {right|in its place}: the {stairs creaked|windows {rattled|stuck}|rooms echoed}. $tears.
?~ "{Where|In which box} is my $mat $thing?" $asked $hero. {It|The $thing} was {in the last box|wrapped in a {towel|sock}|under the {pillows|pans}}.
"{Give it time|Every home was new once|A house needs {a song|some noise}}, $dear," $said $his $kin, {hanging up|unpacking} {the kettle|a picture|the coats}.
$later {there was|came|they heard} a {knock|tap} {at|on} the {front |}door. {It was|There stood} $pal from {next door|across the {street|lane}}, {holding|with} {$treat|a $giftmat $gift|a $fur $animal}.
| $suddenly a {face|head} {appeared|popped up} {over|above} the {wall|fence|hedge}. "{I am $pal|My name is $pal}," it {said|announced}. "Do you {climb trees|play checkers|like frogs|know {any games|the $place}}?"
{Together they|The two of them|$pal and $hero} {$went $path|explored the $place|{raced|wandered} to the $place}, and $pal {showed|pointed out} {where the {berries|birds} were|the best {hiding places|trees|shortcuts}|the shop with {sweets|marbles}}.
{By {evening|bedtime}|When night fell}, the {house|room} {felt|looked} {smaller and kinder|almost {friendly|familiar}|like {home|$hero's own}}.
| $hero put the $thing {on the sill|beside the bed} and {listened to|heard} $sound. {It|This} was {home now|not so bad}.
""",
    "lesson": """
$hero {wanted|longed|wished} to {learn|know} {all about|the secrets of|everything about} $wares from $neighbor, the $job.
| {$once|Every {day|week}}, $hero {visited|watched} $neighbor, the $job, at the $shop{, {where|while} $nhe was $doing|}.
"{Teach|Show} me {everything|how you do it}, please!" $said $hero. "{Today|At once|By supper}!"
| "{How long does it take|Is it hard}?" $asked $hero[, {hopping|leaning closer}].
$neighbor {smiled|chuckled|scratched $nhis {chin|head}}. "{First|Before that|To begin}, {sweep|tidy} the floor," $nhe $said.
| "{Slowly|Patience}," $said $neighbor. "{{Good|Fine} $wares {take|need} time|Hands must learn before heads|Begin with the broom}."
{So|For {three|five} days} $hero {swept|carried water|fetched and carried|watched}, {grumbling|sighing|muttering} {a little|under $his breath}.
? {The first {try|attempt}|At first it} {was a disaster|went badly|was crooked}, and $hero {felt|grew} {$cross|$sad}.
"{Mistakes are {teachers|how we learn}|I {spoiled|ruined} a hundred before I {made|did} one well}," $said $neighbor{.|, {handing|passing} $him {a cloth|another}.}
{Day by day|Little by little|Week after week}, $his {hands|fingers} grew {steady|quick|sure}, and {the work|it} {went {better|faster}|became {easier|a pleasure}}.
$finally, $neighbor {gave|handed|lent} $him a $mat $thing. "{You have earned|Now you are ready for} it," $nhe $said. $joy.
| $finally, $neighbor {nodded|clapped}. "{Now|Today} you are {a $job too|ready}," $nhe $said, and {gave|handed} $him a $mat $thing.
""",
    "bargain": """
$hero {went to market|walked to the market} {with|carrying} {{three|five|seven} {coins|pennies}|a basket of {eggs|plums|onions}}, {looking for|to buy} a {present|gift} for $his $kin.
| {On market day|At the market}, $hero {stopped|stood still} {before|at} a stall {where|because} a $mat $thing {lay|hung|$shone}.
{The stall was|Everywhere there were stalls} {heaped|piled} with {$wares|melons|lace|copper pans|cheeses|peppers}, and {the air smelled of {spice|oranges|bread}|{sellers|women} {shouted|sang} their prices}.
"How much {for|is} the $mat $thing?" {$asked|said} $hero. "{Ten|Twelve|Twenty} {coins|pennies}," $said $neighbor, the {seller|$job}.
| $neighbor {named|asked} a {high|fair|terrible} price for {it|the $mat $thing}, and $hero {turned out|emptied} $his {pockets|purse}.
It was {more than $he had|too much|twice what was in $his pocket}. $tears.
? $his friend $pal {whispered|said}, "{Offer|Trade} {something else|{your|a day of} work|a song}!"
"{I could|Let me} {sweep|carry boxes|{mind|watch} the stall|sing for your {customers|guests}} {all {day|morning}|until noon|for you}," {offered|$said} $hero. "{{And|Then} will you {lower|drop} the price?|I can pay the rest {later|with these}.}"
| "{Will you take|What about} {my $giftmat $gift|my {gloves|lunch|penknife}} {and|as well as} {the coins|all I have}?" $asked $hero.
$neighbor {laughed|rubbed $nhis {nose|beard|hands}|thought {about it|hard}}. "{You {drive|make} a {hard|fine|clever} bargain|Done|Agreed}," $nhe $said, and {they shook hands|wrapped the $thing in paper|put the $thing into $hero's hands}.
{So|That is how|And so} the $mat $thing {came|went} home {under $hero's {arm|coat}|in $hero's {basket|bag}}, and $his $kin {$used it {$usetail|with {pride|love}}|kept it {for years|$kept}}.
""",
    "song": """
$neighbor, the $job, {used to|would often} {hum|sing} a {strange|slow|merry} {song|tune} {while|when} $nhe was $doing.
| {There was|$hero {heard|knew}} a {tune|song} that {nobody|only $neighbor, the $job,} {could finish|remembered}.
$hero {loved|liked} {the {melody|chorus}|it} so {much|well} that $he {hummed|whistled} it $allday, {but|though} {the last {line|verse} was {lost|missing}|nobody knew {how it ended|the words}}.
? "{Where does|How does} {it|the song} {come from|end}?" $asked $hero. "{My {mother|uncle} sang it|I have forgotten}," $said $neighbor.
$he {asked|went to} $his $kin, {the {miller|priest|baker}|{old women|fishermen} {on the {steps|bench}|by $water}}, {and|even} {$pal|the schoolteacher}, but {none of them|nobody} {knew|could help}.
| {$he $went|So $hero $went} $path, {listening|asking} {everywhere|at every {door|window}}.
$suddenly, {at|near} the $place, $he {heard|noticed} {an old {woman|man}|a {blind|traveling} {fiddler|piper}} {singing|playing} {the very same tune|those very notes}.
"{Please|Oh}, {{teach|show} me the {end|rest}|sing {the end|it again}|do not stop}!" $cried $hero, {running up|out of breath}.
{Line by line|Slowly|Again and again} {they sang|the words came}, {about|a tale of} {a ship|two sisters|a {silver|white} {bird|horse}|the $season moon} {that|which} {came home|was never forgotten|{crossed|followed} $water}.
$later, $hero {sang|performed} {it|the whole song} {for|to} $neighbor, {who {wiped $nhis eyes|joined in|tapped a foot}|and the {whole|entire} $village {listened|joined in}}.
| $nextday, {everyone|the whole $village} {was|went about} {singing|humming} it, {even|and} $neighbor {at|in} the $shop.
""",
}
