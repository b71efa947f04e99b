"""What the generated lectures say: a table of small lessons, written for these tests.

`make_lecture` picks from it by seed. It holds words only: no times, no colours, no files. Each page has a line that
opens it and points; a point is the bullet on the slide and the sentence that explains it.
"""

from __future__ import annotations

from dataclasses import dataclass

Point = tuple[str, str]
"""The bullet on the slide, and the sentence that is spoken about it."""


@dataclass(frozen=True, slots=True)
class Page:
    """One slide with its speech."""

    title: str
    opening: str
    drawing: str
    """Which of `lecture_slides.DRAWINGS` stands beside the bullets."""
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Lesson:
    """A small lesson of five or six slides."""

    title: str
    pages: tuple[Page, ...]


WATER = Lesson(
    "The Water Cycle",
    (
        Page(
            "The Journey of Water",
            "Welcome. Today we follow one drop of water around the world.",
            "cycle",
            (
                ("Water moves all the time", "Water on our planet never stands still, it moves all the time."),
                ("The sun gives the energy", "The heat of the sun gives the energy for this journey."),
                ("Four steps make a circle", "Four steps make a circle, and the circle has no end."),
            ),
        ),
        Page(
            "Step 1: Evaporation",
            "The first step is called evaporation.",
            "waves",
            (
                ("Heat turns water into vapor", "The sun warms the sea, and liquid water turns into vapor."),
                ("Salt stays in the ocean", "The salt stays behind in the ocean, so rain is never salty."),
                ("Plants breathe out vapor too", "Plants give off vapor through their leaves as well."),
            ),
        ),
        Page(
            "Step 2: Condensation",
            "The second step happens high above the ground.",
            "layers",
            (
                ("Rising air cools down", "When warm air rises, it becomes colder."),
                ("Droplets form on dust", "The vapor forms tiny droplets around grains of dust."),
                ("Many droplets make a cloud", "Millions of these droplets together make a cloud."),
            ),
        ),
        Page(
            "Step 3: Precipitation",
            "In the third step the water comes back to us.",
            "bars",
            (
                ("Small drops join and grow", "Small drops meet, join and grow until they are too heavy."),
                ("Rain, snow and hail", "Then they fall as rain, and as snow or hail when it is cold."),
                ("Mountains catch more rain", "Mountains force the air to rise, so they catch more rain."),
            ),
        ),
        Page(
            "Step 4: Collection",
            "The last step brings the water home.",
            "chain",
            (
                ("Rivers lead to the sea", "Rivers and streams carry the water down to the sea."),
                ("Groundwater fills our wells", "Some of it sinks into the soil and becomes groundwater."),
                ("The cycle begins again", "From the ocean the water cycle begins again."),
            ),
        ),
    ),
)

PLANTS = Lesson(
    "How Plants Make Food",
    (
        Page(
            "Photosynthesis",
            "Hello, and welcome to this lesson about plants.",
            "chain",
            (
                ("Plants make their own food", "A plant does not eat, because it makes its own food."),
                ("The process needs sunlight", "For this process it needs sunlight, water and air."),
                ("It is called photosynthesis", "Scientists call the process photosynthesis."),
            ),
        ),
        Page(
            "What Goes In",
            "Let us look at what a plant takes in.",
            "bars",
            (
                ("Water rises from the roots", "The roots drink water, and it rises through the stem."),
                ("Carbon dioxide enters leaves", "Carbon dioxide enters the leaves through very small holes."),
                ("Light is caught by chlorophyll", "A green substance called chlorophyll catches the light."),
            ),
        ),
        Page(
            "Inside the Leaf",
            "Now we look inside a single leaf.",
            "layers",
            (
                ("Chloroplasts are tiny factories", "Each cell holds chloroplasts, which work like tiny factories."),
                ("Light splits water", "Light splits the water into hydrogen and oxygen."),
                ("Sugar stores the energy", "The energy of the light is stored in sugar."),
            ),
        ),
        Page(
            "What Comes Out",
            "Every factory has products, and so has a leaf.",
            "cycle",
            (
                ("Oxygen leaves the plant", "Oxygen leaves the plant, and we can breathe it."),
                ("Sugar feeds every part", "Sugar travels to the roots, the fruit and the seeds."),
                ("Starch is sugar for later", "Sugar that is not needed today is kept as starch."),
            ),
        ),
        Page(
            "Why It Matters",
            "Finally, why should we care about this?",
            "waves",
            (
                ("All food begins with plants", "Nearly all the food on earth begins with a green plant."),
                ("Forests clean the air", "Forests and algae keep the air fresh."),
                ("Protect green places", "So when we protect green places, we protect ourselves."),
            ),
        ),
    ),
)

INTEREST = Lesson(
    "Saving and Compound Interest",
    (
        Page(
            "Money That Grows",
            "Good morning. This lesson explains how savings can grow.",
            "bars",
            (
                ("A bank pays you interest", "When you save money, the bank pays you interest."),
                ("The rate is a percentage", "The interest rate is a percentage for one year."),
                ("Time is your best friend", "The longer you wait, the more your money grows."),
            ),
        ),
        Page(
            "Simple Interest",
            "We begin with simple interest.",
            "layers",
            (
                ("Interest on the deposit only", "Simple interest is paid on the first deposit only."),
                ("100 dollars at 5 percent", "One hundred dollars at five percent earn five dollars a year."),
                ("Growth in a straight line", "The same amount is added each year, a straight line."),
            ),
        ),
        Page(
            "Compound Interest",
            "Compound interest is more powerful.",
            "chain",
            (
                ("Interest earns interest", "With compound interest, your interest earns interest too."),
                ("Each year adds a little more", "Each year adds a little more than the year before."),
                ("The curve bends upward", "On a chart the curve bends upward."),
            ),
        ),
        Page(
            "The Rule of 72",
            "Here is a quick rule for your head.",
            "cycle",
            (
                ("Divide 72 by the rate", "Divide seventy two by the interest rate."),
                ("The answer is in years", "The answer is the number of years until the money doubles."),
                ("6 percent needs 12 years", "At six percent you have to wait twelve years."),
            ),
        ),
        Page(
            "Loans Work the Same Way",
            "The same idea also works against you.",
            "waves",
            (
                ("Debt grows like savings", "A loan grows in the same way as savings do."),
                ("Credit cards are expensive", "Credit cards often ask for twenty percent."),
                ("Pay expensive debt first", "Therefore pay back the expensive debt first."),
            ),
        ),
        Page(
            "Summary",
            "Let us repeat what we have learned.",
            "layers",
            (
                ("Start early", "Start to save early, even with a small amount."),
                ("Compare rates", "Compare the rates of several banks."),
                ("Leave the interest untouched", "And leave the interest in the account."),
            ),
        ),
    ),
)

VOLCANOES = Lesson(
    "Inside a Volcano",
    (
        Page(
            "Mountains of Fire",
            "Welcome to a short lesson about volcanoes.",
            "layers",
            (
                ("Hot rock lies below us", "Deep below our feet the rock is hot enough to melt."),
                ("Melted rock is called magma", "Melted rock under the ground is called magma."),
                ("At the surface it is lava", "When it reaches the surface we call it lava."),
            ),
        ),
        Page(
            "Plates in Motion",
            "Why are there volcanoes at all?",
            "waves",
            (
                ("The crust is broken in plates", "The crust of the earth is broken into large plates."),
                ("Plates move slowly", "The plates move a few centimeters every year."),
                ("Volcanoes follow the edges", "Most volcanoes stand along the edges of the plates."),
            ),
        ),
        Page(
            "An Eruption Begins",
            "What happens before an eruption?",
            "chain",
            (
                ("Gas builds up pressure", "Gas in the magma builds up pressure, as in a shaken bottle."),
                ("The ground starts to shake", "The ground starts to shake with many small earthquakes."),
                ("A vent opens", "At last a vent opens, and lava and ash come out."),
            ),
        ),
        Page(
            "Two Kinds of Volcano",
            "We compare two kinds of volcano.",
            "bars",
            (
                ("Shield volcanoes are wide", "Shield volcanoes are wide and flat, since their lava is thin."),
                ("Stratovolcanoes are steep", "Stratovolcanoes are steep, because their lava is thick."),
                ("Thick lava explodes", "Thick lava traps the gas, and that leads to explosions."),
            ),
        ),
        Page(
            "Living Near a Volcano",
            "Many people live near a volcano.",
            "cycle",
            (
                ("Ash makes fertile soil", "Old ash makes the soil fertile, so farmers like it."),
                ("Heat can make electricity", "The heat can be used to make electricity."),
                ("Sensors give early warning", "Sensors on the slopes give an early warning."),
            ),
        ),
    ),
)

SHUI = Lesson(
    "水循环",
    (
        Page(
            "一滴水的旅行",
            "同学们好，今天我们跟着一滴水去旅行。",
            "cycle",
            (
                ("水一直在运动", "地球上的水从来不会停下来，它一直在运动。"),
                ("能量来自太阳", "推动这趟旅行的能量来自太阳。"),
                ("四个步骤连成一圈", "四个步骤首尾相连，就成了水循环。"),
            ),
        ),
        Page(
            "第一步：蒸发",
            "先来看第一步，蒸发。",
            "waves",
            (
                ("海水受热变成水蒸气", "太阳把海面晒热，液态的水就变成了水蒸气。"),
                ("盐分留在海里", "盐分会留在海里，所以雨水不是咸的。"),
                ("植物也会散发水分", "植物的叶子也在不停地散发水分。"),
            ),
        ),
        Page(
            "第二步：凝结",
            "第二步发生在高空。",
            "layers",
            (
                ("空气上升会变冷", "暖空气越升越高，温度就越来越低。"),
                ("水汽附着在灰尘上", "水汽附着在细小的灰尘上，变成小水珠。"),
                ("小水珠聚成云", "无数的小水珠聚在一起，就是我们看到的云。"),
            ),
        ),
        Page(
            "第三步：降水",
            "第三步，水又回到了地面。",
            "bars",
            (
                ("水珠越来越大", "小水珠互相碰撞，越来越大，最后掉了下来。"),
                ("雨、雪和冰雹", "天暖的时候下雨，天冷的时候下雪，有时还会下冰雹。"),
                ("山区降水更多", "山会迫使空气上升，所以山区的降水更多。"),
            ),
        ),
        Page(
            "第四步：汇集",
            "最后一步，水要回家了。",
            "chain",
            (
                ("江河流入大海", "小溪汇成江河，江河流入大海。"),
                ("一部分变成地下水", "还有一部分渗进土壤，变成地下水。"),
                ("新的循环又开始", "回到海里以后，新的循环又开始了。"),
            ),
        ),
    ),
)

GUANGHE = Lesson(
    "植物的光合作用",
    (
        Page(
            "植物怎样吃饭",
            "大家好，这节课我们来认识植物的光合作用。",
            "chain",
            (
                ("植物自己制造养料", "植物不用吃饭，因为它能自己制造养料。"),
                ("需要阳光、水和空气", "制造养料要用到阳光、水和空气。"),
                ("这个过程叫光合作用", "科学家把这个过程叫做光合作用。"),
            ),
        ),
        Page(
            "原料从哪里来",
            "我们先看看原料从哪里来。",
            "bars",
            (
                ("根吸收水分", "根从土壤里吸收水分，再由茎送到叶子。"),
                ("气孔吸入二氧化碳", "叶子背面有很多气孔，二氧化碳从这里进去。"),
                ("叶绿素捕捉阳光", "叶绿素负责捕捉阳光，叶子也因此是绿色的。"),
            ),
        ),
        Page(
            "叶子里的工厂",
            "现在我们走进一片叶子。",
            "layers",
            (
                ("叶绿体就是小工厂", "细胞里的叶绿体就像一座座小工厂。"),
                ("光把水分解", "光的能量把水分解，放出氧气。"),
                ("糖储存能量", "剩下的能量储存在糖里面。"),
            ),
        ),
        Page(
            "为什么很重要",
            "最后想一想，光合作用为什么很重要？",
            "cycle",
            (
                ("氧气供我们呼吸", "植物放出的氧气供人和动物呼吸。"),
                ("粮食都来自植物", "我们吃的粮食，归根到底都来自植物。"),
                ("爱护绿色家园", "所以爱护花草树木，就是爱护我们自己的家园。"),
            ),
        ),
    ),
)

LIXI = Lesson(
    "储蓄与复利",
    (
        Page(
            "钱也会长大",
            "同学们好，今天我们讲一讲储蓄和复利。",
            "bars",
            (
                ("存钱会得到利息", "把钱存进银行，银行会付给我们利息。"),
                ("利率按年计算", "利率通常按年计算，用百分数来表示。"),
                ("时间是最好的朋友", "存的时间越长，钱就长得越多。"),
            ),
        ),
        Page(
            "什么是单利",
            "我们从最简单的单利开始。",
            "layers",
            (
                ("只有本金产生利息", "单利的意思是，只有本金才会产生利息。"),
                ("一百元每年得五元", "利率是百分之五，一百元每年就得五元。"),
                ("增长是一条直线", "每年增加的钱一样多，画出来是一条直线。"),
            ),
        ),
        Page(
            "什么是复利",
            "复利的力量要大得多。",
            "chain",
            (
                ("利息也会产生利息", "复利就是让利息也产生利息。"),
                ("每年都比去年多", "每年增加的钱都比去年多一点。"),
                ("曲线越来越陡", "画成图，曲线会越来越陡。"),
            ),
        ),
        Page(
            "七十二法则",
            "再教大家一个心算的办法。",
            "cycle",
            (
                ("用 72 除以利率", "用七十二除以利率，就知道翻一倍要几年。"),
                ("利率 6 要等 12 年", "比如利率是百分之六，大约要等十二年。"),
                ("越早开始越好", "所以储蓄这件事，越早开始越好。"),
            ),
        ),
    ),
)

LESSONS = {"en": (WATER, PLANTS, INTEREST, VOLCANOES), "zh": (SHUI, GUANGHE, LIXI)}
